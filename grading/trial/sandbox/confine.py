"""What a process takes away from itself through the C library: privileges, namespaces, capabilities.

Everything here raises OSError where the kernel refuses.
"""
import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWNET = 0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x40000000
NOSUID, NODEV, NOEXEC, REC, PRIVATE = 2, 4, 8, 0x4000, 0x40000


def checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(what: str, number: int, *arguments: object) -> int:
    return checked(_LIBC.syscall(ctypes.c_long(number), *arguments), what)


def prctl(option: int, *arguments: int) -> None:
    padded = [*arguments, *[0] * (4 - len(arguments))]
    checked(_LIBC.prctl(option, *map(ctypes.c_ulong, padded)), f"prctl {option}")


def no_new_privileges() -> None:
    prctl(38, 1)  # PR_SET_NO_NEW_PRIVS


def die_with_parent(parent: int) -> None:
    """Kills this process when the thread that started it ends; at once, if it has ended meanwhile."""
    prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def drop_capabilities() -> None:
    """Gives up every capability, which root and the maker of a user namespace have."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    checked(_LIBC.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def own_namespaces(scratch: Path | None, size: int) -> list[str]:
    """Enters a user namespace and what it allows: "network", "ipc", "scratch" (a tmpfs of `size` bytes on `scratch`).

    Returns those that were had; a machine may allow none of them, which is no error.
    """
    uid, gid, had = os.getuid(), os.getgid(), []
    with contextlib.suppress(OSError):
        checked(_LIBC.unshare(NEWUSER), "unshare")
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
        for name, flag in (("network", NEWNET), ("ipc", NEWIPC | NEWUTS)):
            had += _tried(name, lambda flag=flag: checked(_LIBC.unshare(flag), "unshare"))
        if scratch:
            had += _tried("scratch", lambda: _mount_scratch(scratch, size))
    return had


def _mount_scratch(scratch: Path, size: int) -> None:
    checked(_LIBC.unshare(NEWNS), "unshare")
    checked(_LIBC.mount(None, b"/", None, ctypes.c_ulong(REC | PRIVATE), None), "mount")
    checked(_LIBC.mount(b"tmpfs", os.fsencode(scratch), b"tmpfs", ctypes.c_ulong(NOSUID | NODEV | NOEXEC),
                        f"size={size},nr_inodes=4096,mode=700".encode()), "mount")


def _tried(name: str, action) -> Iterator[str]:
    try:
        action()
    except OSError:
        return
    yield name
