"""How fast the lab is, measured side by side with what it is compared to: `python -m benchmarks`. Nobody imports it.

    measure.py    interleaved rounds, CPU and wall time, goals
    report.py     the tables, the machine, the JSON
    setup.py      what a run works with: sizes, cores, and the process below
    apart.py      a second process, in which the lab's settings for speed hold
    data.py       pairs of Cityscapes' size, array files, and the naive road from a PNG to a tensor
    loading.py    one sample, batches, building the cache
    metric.py     the confusion matrix, the arg-max
    training.py   a training loop's stall, its speed on a CPU, scoring
    gpu.py        the same on a GPU
"""
