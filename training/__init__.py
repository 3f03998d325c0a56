"""Fixed: what a training run rests on."""
