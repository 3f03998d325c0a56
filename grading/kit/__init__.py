"""Makes the starter kit from the working reference, and proves that no solution is left in it."""
