"""The student's: task 1."""
