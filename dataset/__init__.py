"""Fixed: the data, from a data set's files (or the drawn sample) to batches."""
