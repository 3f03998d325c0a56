"""The sample's random numbers: NumPy's RandomState, whose streams are frozen, so they are the same on every machine."""
from collections.abc import Sequence

import numpy as np

from sample.palette import Color


class Random:
    """Random choices from one frozen stream, which whole numbers such as (seed, split, index) select."""

    def __init__(self, *key: int) -> None:
        self._stream = np.random.RandomState(list(key))

    def real(self, low: float, high: float) -> float:
        """A number from low to high."""
        return low + (high - low) * float(self._stream.random_sample())

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self._stream.randint(low, high + 1))

    def chance(self, share: float) -> bool:
        """True in `share` (0..1) of the cases."""
        return float(self._stream.random_sample()) < share

    def pick(self, items: Sequence):
        """One of the items."""
        return items[self.whole(0, len(items) - 1)]

    def color(self, base: Color, light: float = 0.15) -> Color:
        """The base color, its brightness varied by the share `light` and each channel by 8."""
        gain = self.real(1 - light, 1 + light)
        red, green, blue = (min(250.0, max(6.0, value * gain + self.real(-8.0, 8.0))) for value in base)
        return red, green, blue

    def grid(self, *shape: int) -> np.ndarray:
        """Noise of the given shape, float32 in -1..1: sums of two uniform bytes."""
        pair = self._stream.randint(0, 256, (2, *shape), dtype=np.uint8).astype(np.float32)
        return (pair[0] + pair[1] - np.float32(255)) / np.float32(255)

    def smooth(self, height: int, width: int, cell: int) -> np.ndarray:
        """Smooth noise (height, width) float32 in -1..1 with blobs of `cell` pixels (a divisor of both); it tiles."""
        grid = self.grid(height // cell, width // cell)
        step = (np.arange(cell, dtype=np.float32) + np.float32(0.5)) / np.float32(cell)
        after = np.roll(grid, -1, 0)
        rows = (grid[:, None, :] + (after - grid)[:, None, :] * step[None, :, None]).reshape(height, -1)
        after = np.roll(rows, -1, 1)
        return (rows[:, :, None] + (after - rows)[:, :, None] * step).reshape(height, width)
