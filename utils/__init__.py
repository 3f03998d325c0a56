"""Fixed: what a graded figure rests on."""
import importlib.util
import os
import sys

# torch's threads wait for each other by spinning, GOMP_SPINCOUNT times. The default of 300,000 is a little faster while
# there is a free core for each. On a shared machine a spinning thread holds up the very one it waits for, and a step
# takes 20 times as long. torch reads it when it is loaded, so utils comes first.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

if "ipykernel" in sys.modules and importlib.util.find_spec("torch") is None:
    from utils.terminal import wrong_python

    raise wrong_python("no torch")  # the notebook's kernel is another Python; commands say so themselves
