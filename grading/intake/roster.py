"""Who is who: each submission is looked into once, then told whose it is, which of two counts, and under what name.

What a look finds is small (names and digests), so that a whole class's fits in memory; the files themselves are opened
again when their turn comes.
"""
import datetime
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

from grading.intake.opening import MachineError, Opened, open_submission
from grading.intake.submissions import Submission, natural
from grading.records import shown, slug_of
from handin.findings import Finding
from handin.names import PARTS, plain
from utils.lab import LabError


@dataclass
class Look:
    """What is known of a submission without running anything; the entries are the record's.

    error: why it could not be opened, "" if it could; ours: that reason lies in this machine.
    """

    submission: Submission
    student_id: str | None = None
    files: dict[str, dict] = field(default_factory=dict)
    missing: list[str] = field(default_factory=lambda: [part.subject for part in PARTS])
    naming: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    error: str = ""
    ours: bool = False


@dataclass
class Student:
    """One student of the class: the look at the submission that counts, and the name of the record."""

    look: Look
    slug: str

    @property
    def name(self) -> str:
        """The student's number, or else the folder's name."""
        return self.look.student_id or shown(self.look.submission.folder)

    def facts(self) -> dict:
        """The record's entries that are known without running anything, as JSON's types."""
        look = self.look
        submitted = datetime.datetime.fromtimestamp(look.submission.time, datetime.timezone.utc)
        return {"student": self.name, "folder": shown(look.submission.folder), "files": look.files,
                "missing": look.missing, "naming": look.naming, "extra": look.extra,
                "findings": [asdict(finding) for finding in look.findings],
                "submitted": submitted.strftime("%Y-%m-%dT%H:%M:%SZ") if look.submission.time else None}


def look_into(submission: Submission, scratch: Path) -> Look:
    """Opens a submission in a folder of its own below `scratch`, which is gone afterwards. Raises nothing for its sake.
    """
    look = Look(submission)
    try:
        with tempfile.TemporaryDirectory(dir=scratch) as temporary:
            folder = Path(temporary, "in")
            folder.mkdir()
            describe(open_submission(submission, folder), look)
    except LabError as error:
        look.error, look.ours = str(error), isinstance(error, MachineError)
    except Exception as error:  # a fault of ours in one submission stops no other
        look.error, look.ours = f"{type(error).__name__}: {error}", True
    if look.error:
        look.findings.append(Finding("FAIL", "files", look.error))
    return look


def describe(opened: Opened, look: Look) -> None:
    """Fills in what `opened` shows."""
    handin = opened.handin
    look.student_id = handin.student_id
    look.files = {part.subject: {"path": opened.relative(path), "sha256": opened.digests[part.subject],
                                 "bytes": path.stat().st_size} for part, path in handin.files.items()}
    look.missing = [part.subject for part in handin.missing]
    look.naming = [shown(problem) for problem in handin.problems]
    look.extra = [opened.relative(path) for path in handin.extra]
    look.findings = list(opened.notes)


def enroll(looks: list[Look]) -> list[Student]:
    """The students of a class, in the submissions' order: of two submissions of one student the later counts.

    One student's are those of one participant of Moodle's; without Moodle, of one number where it stands in the
    folders' names too, or of folders whose names differ as copies' do. A number, or a folder's name, that others have
    as well stays with each of them, with a finding for a person to look at, and their records have names of their own.
    """
    groups: dict[tuple[str, str], list[Look]] = defaultdict(list)
    for look in looks:
        groups[_whose(look)].append(look)
    counting = []
    for group in groups.values():
        *earlier, last = sorted(group, key=lambda look: (look.submission.time, natural(look.submission.folder)))
        if earlier:
            names = ", ".join(shown(look.submission.folder) for look in earlier)
            last.findings.append(Finding("WARN", "submission", f"expected one submission, found {names} as well: the "
                                         f"latest, {shown(last.submission.folder)}, is graded"))
        counting.append(last)
    holders: dict[str, list[Look]] = defaultdict(list)
    for look in counting:
        holders[_slug(look).casefold()].append(look)
    for sharing in holders.values():
        for look in sharing if len(sharing) > 1 else ():
            others = ", ".join(shown(other.submission.folder) for other in sharing if other is not look)
            look.findings.append(Finding("WARN", "submission", f"expected a number of their own, found "
                                         f"{Student(look, '').name} in {others} as well: find out whose it is"))
    counting.sort(key=lambda look: natural(look.submission.folder))
    return [Student(look, _slug(look, alone=len(holders[_slug(look).casefold()]) == 1)) for look in counting]


def _whose(look: Look) -> tuple[str, str]:
    submission = look.submission
    if submission.owner:
        return "moodle", submission.owner
    folder = plain(submission.folder).removesuffix(".zip")
    number = (look.student_id or "").casefold()
    return ("number", number) if number and number in folder else ("folder", folder)


def _slug(look: Look, *, alone: bool = True) -> str:
    """The name of the look's record; where others have it as well, with digits that no two of them share."""
    slug = slug_of(look.student_id or look.submission.folder)
    # of those that count, no two have the same `_whose`, whereas files and a folder may have the same name
    return slug if alone else f"{slug[:30]}-{slug_of(' '.join(_whose(look)), alone=False)[-8:]}"
