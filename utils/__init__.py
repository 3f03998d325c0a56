"""Fixed: what a graded figure rests on."""
import os

# torch's threads wait for each other by spinning, GOMP_SPINCOUNT times. The default of 300,000 is a little faster while
# there is a free core for each; on a shared machine a spinning thread holds up the very one it waits for, and a step
# takes 20 times as long. It is read when torch is loaded, so utils comes first.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
