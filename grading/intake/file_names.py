"""What a file's name alone says: which of the seven parts it is, and whose. form: of a student's number."""
import functools
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from handin.names import KINDS, PARTS, exact, plain

WITH_NUMBER = (".ipynb", ".pdf")


@functools.cache
def _patterns(form: str) -> dict[str, re.Pattern]:
    return {part.subject: re.compile(exact(part, form), re.IGNORECASE) for part in PARTS}


def shared_parts(names: Iterable[str], form: str) -> dict[str, set[str]]:
    """The parts of a hand-in among file names: subject -> the numbers in the names, "" where a name has none."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in names:
        for subject, pattern in _patterns(form).items():
            if match := pattern.fullmatch(PurePosixPath(name).name):
                found[subject].add(match.groupdict().get("id", "").casefold())
    return found


def is_kind(name: str) -> bool:
    """Whether a name ends as one of the seven files does."""
    return PurePosixPath(plain(PurePosixPath(name).name)).suffix in KINDS


def number_in_file(name: str, form: str) -> str:
    """The student's number in the name of a notebook or report, "" in others."""
    simple = plain(name)
    if not simple.endswith(WITH_NUMBER):
        return ""
    ids = {match["id"] for pattern in _patterns(form).values() if "id" in pattern.groupindex
           and (match := pattern.fullmatch(name) or pattern.fullmatch(simple))}
    return ids.pop().upper() if ids else ""
