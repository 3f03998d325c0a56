"""How fast the lab is, measured beside what it is compared with: `python -m benchmarks`. Nobody imports this folder.

    measure.py    rounds, CPU and wall time, tables
    data.py       image pairs of Cityscapes' size, stored rows, and the usual way from a PNG to a tensor
    loading.py    one sample, batches, building the cache
    metric.py     the confusion matrix, the arg-max
    training.py   training and scoring on the CPU
    gpu.py        training on a GPU
    classroom.py  grading a class, and what the sandbox costs
"""
