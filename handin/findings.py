"""What a check found: a level, a subject, and one line that says what to do."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from utils.lab import LabError

# OK; WARN: worth a look, it may cost nothing; FAIL: costs points as it is.
Level = Literal["OK", "WARN", "FAIL"]


class DoubtError(LabError):
    """What a check raises for a WARN; a plain LabError is a FAIL."""


@dataclass(frozen=True)
class Finding:
    """One row of the table. `text` is a line: for WARN and FAIL what was expected and found, where, and what to do.

    `line` is the line of the code that it is about, 0 where it is about none.
    """

    level: Level
    subject: str
    text: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.level:4}  {self.subject:14}  {self.text}"


def judge(subject: str, check: Callable[..., str], *arguments: object) -> Finding:
    """Calls a check, which returns the OK row's text or raises, and makes its row."""
    try:
        return Finding("OK", subject, check(*arguments))
    except DoubtError as doubt:
        return Finding("WARN", subject, str(doubt))
    except LabError as error:
        return Finding("FAIL", subject, str(error))
