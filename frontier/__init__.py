"""Many runs of task 2: which network still reaches the threshold, and which of those has the smallest FoM.

The training is the notebook's, run by training.headless; nothing of it is written here a second time.
"""
