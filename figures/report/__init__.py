"""Fixed: the figures of the student's report, and its skeleton: python -m figures.report."""
