"""The student's: task 2."""
