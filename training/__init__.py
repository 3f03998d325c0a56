"""Fixed: what a training run rests on."""
import utils  # noqa: F401  before torch is loaded: how its threads wait is set there
