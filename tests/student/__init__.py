"""What a student can run from the first day on: `make test`, or python -m pytest tests/student."""
