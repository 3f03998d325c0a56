"""How strong a sandbox is, what one child may use in it, and how it ended."""
import enum
from dataclasses import dataclass, replace


class Level(str, enum.Enum):
    BUBBLEWRAP = "bubblewrap"
    NAMESPACES = "namespaces and Landlock"
    NONE = "no sandbox"


@dataclass(frozen=True)
class Limits:
    """Of one child: seconds, and bytes. On a GPU the address space is not limited, which CUDA reserves freely."""

    wall: float = 600.0
    cpu: float = 1200.0
    memory: int = 4 << 30       # address space, and resident together
    file_size: int = 256 << 20
    scratch: int = 256 << 20    # what fits into its home folder
    processes: int = 64         # threads
    log: int = 64 << 10

    def longer(self, times: float) -> "Limits":
        """The same with so many times the time."""
        return replace(self, wall=self.wall * times, cpu=self.cpu * times)


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    status: its exit status, -N if signal N ended it (an exit with 128 + N looks the same), None if it was killed here
    for a limit, which `reason` names: "wall time", "cpu time", "memory", "processes", or "output" for more than
    answer_size bytes of answer (`overflow`) or floods of anything else. Where the address space is limited a child
    that wants too much memory meets Python's MemoryError or torch's RuntimeError and ends by itself, with reason "".
    answer, report: what came over its two channels, at most answer_size and REPORT_SIZE bytes. log: what it printed.
    """

    status: int | None
    reason: str
    answer: bytes
    overflow: bool
    report: bytes
    log: str
    seconds: float
