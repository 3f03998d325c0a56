"""Whatever was handed in, as students with files: found, opened safely, told apart."""
