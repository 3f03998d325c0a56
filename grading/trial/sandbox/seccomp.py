"""The system calls that a sandboxed program may not make, as a seccomp filter for x86_64 and aarch64.

A filter is a small program for the kernel's packet filter (struct sock_filter, see linux/filter.h and the kernel's
userspace-api/seccomp_filter). torch computes with threads and needs none of what is denied here.
"""
import ctypes
import os
import platform
import struct

from grading.trial.sandbox.confine import prctl

EPERM, ENOSYS = 1, 38

# name: (number on x86_64, number on aarch64); None: there is none. All of these answer EPERM.
DENIED = {
    # other programs and processes: a program is one process, and dies as one
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "tkill": (200, 130),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "move_pages": (279, 239),
    "migrate_pages": (256, 238), "setpriority": (141, 140), "ioprio_set": (251, 30),
    # the network
    "socket": (41, 198),
    # memory that counts as nobody's resident memory
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180),
    # mounts, namespaces, other roots
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "quotactl": (179, 60),
    # parts of the kernel in which holes are found again and again, and what is the administrator's
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "acct": (163, 89), "syslog": (103, 116),
    "vhangup": (153, 58), "personality": (135, 92), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None),
}
# glibc then falls back to clone, whose flags a filter can see.
UNKNOWN = {"clone3": (435, 435)}
# name: numbers, argument, the bit that must be set
ONLY_WITH = {"clone": ((56, 220), 0, 0x00010000)}   # CLONE_THREAD
# name: numbers, argument, values that are denied: F_SETOWN, F_SETSIG, F_SETOWN_EX (signals to others by way of a
# file), TIOCSTI, TIOCLINUX (typing into a terminal), FIOSETOWN, SIOCSPGRP, PR_SET_PDEATHSIG (outliving the parent)
NOT_WITH = {"fcntl": ((72, 25), 1, (8, 10, 15)), "ioctl": ((16, 29), 1, (0x5412, 0x541C, 0x8901, 0x8902)),
            "prctl": ((157, 167), 0, (1,))}
# name: numbers; their first argument must be the program's own process id
OWN = {"kill": (62, 129), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)}
OWN_OR_ZERO = {"prlimit64": (302, 261)}

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column in the tables, AUDIT_ARCH of linux/audit.h
X32 = 0x40000000  # the bit of x86_64's third set of numbers, which nothing here uses

# Instructions: BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_{JEQ, JGE, JSET} | BPF_K, BPF_RET | BPF_K
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCH, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; an argument's low word comes first


def supported() -> bool:
    return platform.machine() in MACHINES


def assemble(pid: int, machine: str) -> bytes:
    """The filter as an array of struct sock_filter, for a program whose process id (in its own namespace) is `pid`."""
    column, arch = MACHINES[machine]
    code = [(LOAD, 0, 0, ARCH), (EQUAL, 1, 0, arch), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    if column == 0:
        code += [(AT_LEAST, 0, 1, X32), (RETURN, 0, 0, ERRNO | EPERM)]

    def rule(numbers: tuple[int | None, ...], body: list[tuple[int, int, int, int]]) -> None:
        if numbers[column] is not None:
            code.extend([(EQUAL, 0, len(body), numbers[column]), *body])

    deny, allow = (RETURN, 0, 0, ERRNO | EPERM), (RETURN, 0, 0, ALLOW)
    for numbers in DENIED.values():
        rule(numbers, [deny])
    for numbers in UNKNOWN.values():
        rule(numbers, [(RETURN, 0, 0, ERRNO | ENOSYS)])
    for numbers, argument, bit in ONLY_WITH.values():
        rule(numbers, [_argument(argument), (ANY_BIT, 1, 0, bit), deny, allow])
    for numbers, argument, values in NOT_WITH.values():
        found = [(EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
        rule(numbers, [_argument(argument), *found, allow, deny])
    for numbers in OWN.values():
        rule(numbers, [_argument(0), (EQUAL, 1, 0, pid), deny, allow])
    for numbers in OWN_OR_ZERO.values():
        rule(numbers, [_argument(0), (EQUAL, 2, 0, pid), (EQUAL, 1, 0, 0), deny, allow])
    code.append(allow)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def install() -> None:
    """Puts the filter on this process and its threads to come, for good; no_new_privs must be set. OSError if it fails.

    From then on it can start no other program either, so it is the last thing before the program itself.
    """
    code = assemble(os.getpid(), platform.machine())
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    program = Program(len(code) // 8, ctypes.addressof(buffer))
    prctl(22, 2, ctypes.addressof(program))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def _argument(index: int) -> tuple[int, int, int, int]:
    return (LOAD, 0, 0, ARGUMENTS + 8 * index)
