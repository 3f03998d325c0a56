"""Reads the names that learning platforms give to what they pack: whose a file is, and what the student called it.

    Ada Lovelace_4000_assignsubmission_file_/...             Moodle, with folders
    Ada Lovelace_4000_assignsubmission_file_network.py       Moodle, without
    lovelaceada_LATE_12345_67890_network_task1-1.py          Canvas: user, attachment, -1 for a second attempt
"""
import re
from collections.abc import Iterable
from typing import NamedTuple

from grading.intake.listing import Item

MOODLE = re.compile(r"(?P<person>.+?)_(?P<before>late_)?(?P<account>\d+)_(?P<after>late_)?"
                    r"assignsubmission_(?P<kind>[a-z]+)_?(?P<rest>.*)", re.DOTALL | re.IGNORECASE)
CANVAS = re.compile(r"(?P<person>[^\W\d_][^_]*)_(?P<late>late_)?(?P<account>\d{3,})_\d{3,}_(?P<rest>.+)",
                    re.DOTALL | re.IGNORECASE)
ATTEMPT = re.compile(r"-(\d{1,2})(?=(\.\w{1,9})?$)")  # what Canvas puts behind a name that was there before
# Words for parts and versions of a hand-in. A folder whose name has no other words is a student's own, if nothing else
# decides.
PART_WORDS = {"task", "tasks", "model", "models", "network", "networks", "net", "weight", "weights", "report",
              "reports", "notebook", "notebooks", "code", "src", "source", "lab", "old", "new", "final", "draft", "v",
              "version", "backup"}


class PlatformName(NamedTuple):
    """What a platform's name tells: `owner` is unique for a student, `account` the platform's number for them.

    kind: "file", or what else a student filled in on Moodle. rest: the name that the student gave, "" for a folder.
    attempt: from 0, of a file that was handed in again. late: the platform's own mark, as a sentence, or "".
    """

    owner: str
    person: str
    account: str
    kind: str
    rest: str
    attempt: int
    late: str


def read_name(name: str) -> PlatformName | None:
    """What the name of a file or folder tells, None where no platform gave it."""
    if found := MOODLE.fullmatch(name):
        late = "Moodle marks it late" if found["before"] or found["after"] else ""
        owner = f"{found['person']}_{found['account']}"
        return PlatformName(owner, found["person"], found["account"], found["kind"].casefold(), found["rest"], 0, late)
    if (found := CANVAS.fullmatch(name)) and not is_part(found["person"]):
        late = "Canvas marks it late" if found["late"] else ""
        owner = f"{found['person']}_{found['account']}"
        attempt = ATTEMPT.search(found["rest"])
        return PlatformName(owner, found["person"], found["account"], "file", ATTEMPT.sub("", found["rest"]),
                            int(attempt[1]) if attempt else 0, late)
    return None


def read_names(items: Iterable[Item]) -> dict[str, PlatformName]:
    """What the names of items tell, for those that a platform gave.

    If one owner has all of several zips, it is no owner: homework_20261130_31355555_ada.zip is nobody's from Canvas.
    """
    named = {item.name: told for item in items if (told := read_name(item.name))}
    canvas = {item.name: named[item.name].owner for item in items
              if item.is_container and item.name in named and not MOODLE.fullmatch(item.name)}
    return {} if len(canvas) > 1 and len({told.owner for told in named.values()}) == 1 else named


def is_part(name: str) -> bool:
    """Whether a name has only words for parts of a hand-in: Task 1, lab05_code, final; not Taskin or Model Ada."""
    words = re.findall(r"[^\W\d_]+", name.casefold())
    return bool(words) and PART_WORDS.issuperset(words)
