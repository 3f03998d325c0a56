"""The board: students hand in by HTTP while the lab runs, one queue scores them, and all see where they stand."""
