"""Finds students whose code or weights are alike."""
