"""Fixed: what a graded figure rests on."""
