"""What `grade` says while it works: lines on stderr, above the progress bar where there is one."""
import contextlib
import time
from collections.abc import Iterator

from tqdm import tqdm

from utils.terminal import bar_stream


def say(line: str, bar: tqdm | None = None) -> None:
    """A line on stderr; what stands in a student's name moves no cursor."""
    line = "".join(char if char.isprintable() else "\ufffd" for char in line)
    encoding = getattr(bar_stream(), "encoding", None) or "utf-8"
    line = line.encode(encoding, "backslashreplace").decode(encoding)
    if bar is None:
        print(line, file=bar_stream(), flush=True)
    else:
        bar.write(line, file=bar_stream())


class Progress:
    """A bar, and a line for each item, with the time left where the bar does not show it."""

    def __init__(self, bar: tqdm) -> None:
        self.bar, self.begin, self.done = bar, time.monotonic(), 0

    def step(self, line: str = "") -> None:
        """Counts one item as done, and says `line` about it."""
        self.done += 1
        self.bar.update()
        left = (time.monotonic() - self.begin) / self.done * (self.bar.total - self.done)
        if line:
            about = "" if not self.bar.disable else f", about {_minutes(left)} left"
            say(f"{self.done}/{self.bar.total} {line}{about}", self.bar)


@contextlib.contextmanager
def progress(total: int, doing: str, unit: str) -> Iterator[Progress]:
    """A bar on stderr, shown only on a terminal."""
    with tqdm(total=total, desc=doing, unit=unit, file=bar_stream(), disable=None) as bar:
        yield Progress(bar)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
