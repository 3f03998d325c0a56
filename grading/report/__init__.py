"""Makes the report of a graded class from its records."""
