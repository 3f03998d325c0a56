"""Task 2's frontier: which of the ladder's networks still passes the gate, and which of them has the smallest FoM.

    python -m training.frontier plan      what each rung costs, before any training
    python -m training.frontier train     each rung with several seeds
    python -m training.frontier levers    one rung, each method of the recipe turned off
    python -m training.frontier blocks    one rung with each kind of block
    python -m training.frontier show      what all these runs came to

The training itself is the notebook's, run by training.headless; nothing of it is written here a second time.
"""
