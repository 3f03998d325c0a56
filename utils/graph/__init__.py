"""A network as data: exported as a graph of ATen operators, checked, replayed without its code, and counted.

    export.py      network -> graph (JSON) and tensors (safetensors); runs where the network's code runs
    operators.py   the exact list of operators that a graph may use, and how each is counted
    schema.py      the checked form of a graph; reads JSON that nobody vouches for
    weight.py      what a checked graph itself weighs, beside its tensors
    replay.py      runs a checked graph on images, one at a time, and counts what runs

What is scored is what is counted: no figure that the network's own code could touch is used. A graph that cannot be
exported or is not on the list raises GraphError; its cost is unverified.
"""
