"""The filter on system calls, judged by an interpreter of its own and by the numbers in the kernel's headers."""
import re
import sys
from pathlib import Path

import pytest

from grading.trial.sandbox import seccomp

HEADERS = {"x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
           "aarch64": ("/usr/include/asm-generic/unistd.h",)}


def header_numbers(machine):
    for path in map(Path, HEADERS[machine]):
        if path.is_file():
            # The generic table counts calls of other names for 32 bits: __NR3264_fcntl and the like.
            found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text(encoding="utf-8"))
            return {name: int(number) for name, number in found}
    pytest.skip(f"the kernel's headers for {machine} are not installed")


def judge(code, arch, number, *arguments):
    """What the kernel would do: classic BPF over struct seccomp_data, by linux/filter.h."""
    data = number.to_bytes(4, "little") + arch.to_bytes(4, "little") + bytes(8)
    data += b"".join((argument & (1 << 64) - 1).to_bytes(8, "little") for argument in (*arguments, *[0] * 6)[:6])
    place, value = 0, 0
    while True:
        operation, yes, no, k = (int.from_bytes(code[place * 8 + at:place * 8 + to], sys.byteorder)
                                 for at, to in ((0, 2), (2, 3), (3, 4), (4, 8)))
        place += 1
        if operation == 0x20:
            value = int.from_bytes(data[k:k + 4], "little")
        elif operation == 0x06:
            return {0x7FFF0000: "allow", 0x80000000: "kill", 0x00050001: "EPERM", 0x00050026: "ENOSYS"}[k]
        else:
            taken = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[operation]
            place += yes if taken else no


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)])
def test_the_filter_by_the_kernels_own_numbers(machine, arch):
    numbers, code = header_numbers(machine), seccomp.assemble(77, machine)
    assert judge(code, 0x40000003, numbers["read"]) == "kill"  # i386, whose numbers mean other calls
    tables = {**seccomp.DENIED, **seccomp.UNKNOWN, **seccomp.OWN, **seccomp.OWN_OR_ZERO}
    tables |= {name: row[0] for name, row in (*seccomp.ONLY_WITH.items(), *seccomp.NOT_WITH.items())}
    column = seccomp.MACHINES[machine][0]
    known = {name: pair[column] for name, pair in tables.items() if name in numbers}
    assert known == {name: numbers[name] for name in known} and len(known) > 60
    assert all(pair[column] is None for name, pair in tables.items() if name not in numbers and name != "memfd_secret")
    for name in ("read", "write", "mmap", "futex", "openat", "brk", "exit_group", "sched_getaffinity", "getrandom"):
        assert judge(code, arch, numbers[name], 3, 3, 3) == "allow", name
    for name in ("socket", "execve", "ptrace", "unshare", "bpf", "io_uring_setup", "memfd_create"):
        assert judge(code, arch, numbers[name], 2, 1, 0) == "EPERM", name
    pthread = 0x3D0F00  # what glibc creates a thread with; 17 is fork's SIGCHLD
    assert [judge(code, arch, numbers["clone"], flags) for flags in (pthread, 17, 0x10000000 | 17)] == [
        "allow", "EPERM", "EPERM"]
    assert judge(code, arch, numbers["clone3"]) == "ENOSYS"
    for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
        assert [judge(code, arch, numbers[name], pid) for pid in (77, 78, 0, -1)] == ["allow"] + ["EPERM"] * 3
    assert [judge(code, arch, numbers["prlimit64"], pid) for pid in (77, 0, 1)] == ["allow", "allow", "EPERM"]
    assert [judge(code, arch, numbers["fcntl"], 3, command) for command in (1, 3, 8, 10, 15)] == (
        ["allow"] * 2 + ["EPERM"] * 3)
    assert [judge(code, arch, numbers["ioctl"], 0, request) for request in (0x5401, 0x5412, 0x541C)] == [
        "allow", "EPERM", "EPERM"]
    assert [judge(code, arch, numbers["prctl"], option) for option in (1, 15)] == ["EPERM", "allow"]
    if machine == "x86_64":
        assert judge(code, arch, 0x40000000 | 59) == "EPERM"
