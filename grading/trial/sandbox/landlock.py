"""Landlock: a process keeps only the files that it names (Linux 5.13 and newer, nothing to install, no rights needed).

See the kernel's userspace-api/landlock. What a newer kernel can deny beyond files is denied where it is known: TCP,
signals to others, abstract unix sockets.
"""
import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from grading.trial.sandbox.confine import syscall

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every machine

# Rights over files: the bit of each, by the version (ABI) that brought it.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
ON_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | 1 << 15  # the rest is for folders
TCP = {4: 0b11}       # bind and connect
SCOPES = {6: 0b11}    # abstract unix sockets, signals


def version() -> int:
    """Landlock's ABI version; 0 where the kernel has none or does not let it be used."""
    try:
        return syscall("landlock", CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except OSError:
        return 0


def restrict(read: Iterable[Path], write: Iterable[Path]) -> None:
    """Denies this process every file but those in or at `read` and `write` (paths that are absent are left out).

    Nothing may be executed. For good, and no_new_privs must be set; OSError where Landlock is not to be had.
    """
    abi = version()
    handled = _newest(FILES, abi)
    fields = (ctypes.c_uint64 * 3)(handled, _newest(TCP, abi), _newest(SCOPES, abi))
    known = 8 * (3 if abi >= 6 else 2 if abi >= 4 else 1)  # an older kernel takes a shorter structure
    rules = syscall("landlock_create_ruleset", CREATE_RULESET, fields, ctypes.c_size_t(known), ctypes.c_uint32(0))
    try:
        for path in read:
            _allow(rules, path, READ_FILE | READ_DIR)
        for path in write:
            _allow(rules, path, handled & ~EXECUTE)
        syscall("landlock_restrict_self", RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0))
    finally:
        os.close(rules)


def _allow(rules: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= ON_A_FILE

        class Beneath(ctypes.Structure):  # struct landlock_path_beneath_attr
            _pack_ = 1
            _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))

        rule = Beneath(rights, place)
        syscall("landlock_add_rule", ADD_RULE, ctypes.c_int(rules), ctypes.c_int(1), ctypes.byref(rule),
                ctypes.c_uint32(0))
    finally:
        os.close(place)


def _newest(table: dict[int, int], abi: int) -> int:
    return max((value for since, value in table.items() if since <= abi), default=0)
