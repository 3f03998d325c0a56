"""A file of pictures or labels that is written row by row, in any order, and survives an interruption."""
import errno
import os
from pathlib import Path

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0


class Rows:
    """A .npy file of uint8 rows written one at a time, with its room on the disk taken at the start.

    Written by calls, not through a memory map: there a full disk would kill the process (SIGBUS) instead of raising.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.row = int(np.prod(shape[1:]))
        self.file = path.open("r+b" if path.exists() else "w+b")
        try:
            self._reserve(shape)
        except OSError:
            self.file.close()  # Windows deletes no open file
            raise

    def _reserve(self, shape: tuple[int, ...]) -> None:
        write_array_header_1_0(
            self.file, {"descr": dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape})
        self.start = self.file.tell()
        size = self.start + shape[0] * self.row
        self.file.truncate(size)
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self.file.fileno(), 0, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # a file system that cannot
                    raise

    def write(self, index: int, pixels: np.ndarray) -> None:
        self.file.seek(self.start + index * self.row)
        self.file.write(pixels.data)

    def read(self, index: int) -> np.ndarray:
        self.file.seek(self.start + index * self.row)
        return np.frombuffer(self.file.read(self.row), np.uint8)

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        with self.file:
            self.file.flush()
            os.fsync(self.file.fileno())
