"""Reference: other architectures, one file each, to be read beside their papers. Nobody imports it."""
