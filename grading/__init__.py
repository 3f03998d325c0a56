"""The TA's, never in the kit: the starter kit is made here (python -m grading release)."""
