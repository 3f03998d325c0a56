"""Fixed: the data, from Cityscapes' files (or the drawn sample) to batches."""
