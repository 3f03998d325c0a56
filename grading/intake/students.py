"""Tells whose each submission is, which of two counts, and under what name a student is recorded.

A student's number comes from the platform or the roster, or from the name of the folder or zip, or from the names of
the files, and a better source always wins. A number that only files claim is a note on that submission; it never
changes anybody else's. Where two claims are equally good, both submissions wait for a person.
"""
import datetime
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from grading.intake.roster import Member, Roster
from grading.intake.submissions import Submission, natural
from grading.records import shown, slug_of
from handin.findings import Finding
from handin.names import number_pattern, plain

BY_FILES, BY_NAME, BY_ROSTER = 1, 2, 3  # how good a claim to a number is


@dataclass
class Student:
    """One student of the class: the submission that counts, the name of the record, and the number where it is known.

    contested: why a person has to say whose the number is, "" for everybody else.
    """

    submission: Submission
    slug: str
    number: str = ""
    contested: str = ""

    @property
    def name(self) -> str:
        """The student's number, or else the name of the submission."""
        return self.number or shown(self.submission.name)

    def facts(self) -> dict:
        """The record's entries that are known without running anything, as JSON's types."""
        found = self.submission
        seconds, assumed = found.moment
        moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
        return {"student": self.name, "folder": shown(found.name), "files": found.files, "missing": found.missing,
                "naming": found.naming, "extra": found.extra, "findings": [asdict(one) for one in found.findings],
                "contested": self.contested, "submitted": moment.strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None,
                "time_assumed": bool(seconds) and assumed, "late_mark": found.late_mark}


class Owners:
    """Finds students' numbers in names: the roster's, or otherwise whole words of the form that the course gives them.
    """

    def __init__(self, form: str, roster: Roster | None = None) -> None:
        self.form, self.roster = form, roster
        self._number = re.compile(number_pattern(form))

    def __call__(self, name: str) -> list[str]:
        """The numbers that a name carries, in their order; of a path, its last part: a section's name is nobody's."""
        name = name.rpartition("/")[2]
        if self.roster and (member := self.roster.named(name)):
            return [member.number]
        words = re.split(r"[\W_]+", unicodedata.normalize("NFKC", name))
        return list(dict.fromkeys(word.upper() for word in words if self._number.fullmatch(word)))

    def is_on_roster(self, number: str) -> bool:
        return self.roster is not None and self.roster.named(number) is not None

    def claim(self, submission: Submission) -> tuple[str, int]:
        """The number that a submission has without its files, and how good the claim is; "" and 0 for none."""
        if self.roster:
            member = self.roster.of_account(submission.person, submission.account) if submission.owner else \
                self.roster.named(submission.name.rpartition("/")[2])
            if member:
                return member.number, BY_ROSTER
        numbers = self(submission.person if submission.owner else submission.name)
        return (numbers[0], BY_ROSTER if submission.owner else BY_NAME) if len(numbers) == 1 else ("", 0)


def enroll(submissions: Sequence[Submission], owners: Owners, look: Callable[[Iterable[Submission]], object],
           note: Callable[[str], object]) -> list[Student]:
    """The students of a class, sorted by the names of their submissions, which `look` opens (opening.look_into).

    Those on the roster who handed in nothing come last. Of two submissions of one owner the later counts.
    """
    look(submissions)
    for one in submissions:
        one.claimed = next(iter(owners(one.claimed)), "")
    claims = {one: owners.claim(one) for one in submissions}
    known = [one for one in submissions if claims[one][1] == BY_NAME and one.claimed]
    other = [one for one in known if claims[one][0].casefold() != one.claimed.casefold()]
    if len(other) > max(2, len(known) / 2):
        note(f"the numbers in the names of folders and zips are not those of the files ({len(other)} of {len(known)} "
             f"differ, {shown(other[0].name)} for one): they are taken for the platform's own")
        claims |= {one: ("", 0) for one in known}
    again = []
    for one in submissions:
        one.number = claims[one][0]
        if one.number and one.number.casefold() != one.claimed.casefold() and not one.error:
            again.append(one)
    look(again)  # their names are judged by the number that they should carry
    for one in again:
        if one.claimed:
            _warn(one, f"expected files of {one.number}, found {one.claimed} in their names: {one.number} is taken, by "
                       f"{'the roster or platform' if claims[one][1] == BY_ROSTER else 'the name of the submission'}")
    students = _name(_latest(submissions, claims), claims)
    taken = {student.number.casefold() for student in students}
    absent = [member for member in owners.roster.members if member.number.casefold() not in taken] \
        if owners.roster else []
    return [*sorted(students, key=lambda student: natural(student.submission.name)), *map(_absent, absent)]


def _latest(submissions: Sequence[Submission], claims: dict[Submission, tuple[str, int]]) -> list[Submission]:
    """The submission of each owner that counts: the latest, but none whose files contradict where others' do not."""
    groups: dict[tuple[str, str], list[Submission]] = defaultdict(list)
    for one in submissions:
        groups[_owner(one, claims[one])].append(one)
    counting = []
    for group in groups.values():
        sound = [one for one in group if not one.claimed or not one.number
                 or one.claimed.casefold() == one.number.casefold()] or group
        for one in group:
            if one not in sound:
                claims[one] = ("", 0)  # recorded under its own name
                _warn(one, f"expected files of {one.number}, found {one.claimed}: it does not take the place of "
                           f"{shown(sound[0].name)}; find out whose it is")
                counting.append(one)
        *earlier, last = sorted(sound, key=lambda one: (one.moment, natural(one.name)))
        if earlier:
            names = ", ".join(shown(one.name) for one in earlier)
            _warn(last, f"expected one submission, found {names} as well: the latest, {shown(last.name)}, is graded")
        counting.append(last)
    return counting


def _owner(one: Submission, claim: tuple[str, int]) -> tuple[str, str]:
    """What submissions of one owner share: a number of the roster's, a platform's owner, a number, a folder's name."""
    number, strength = claim
    if strength == BY_ROSTER:
        return "number", number.casefold()
    if one.owner:
        return "owner", one.owner
    if number:
        return "number", number.casefold()
    return "folder", "/".join(map(plain, one.name.removesuffix(".zip").split("/")))


def _name(counting: list[Submission], claims: dict[Submission, tuple[str, int]]) -> list[Student]:
    """A student for each submission. The best claim to a number has it; of equal ones a person decides."""
    claims = {one: claims[one] if claims[one][0] else (one.claimed, BY_FILES * bool(one.claimed)) for one in counting}
    holders: dict[str, list[Submission]] = defaultdict(list)
    for one in counting:
        if claims[one][0]:
            holders[claims[one][0].casefold()].append(one)
    students = []
    for one in counting:
        number, strength = claims[one]
        sharing = [other for other in holders[number.casefold()] if other is not one] if number else []
        best = max((claims[other][1] for other in sharing), default=0)
        others = ", ".join(shown(other.name) for other in sharing if claims[other][1] == best)
        contested = ""
        if best > strength:
            _warn(one, f"expected a number of its own, found {number} in the names of its files, which is that of "
                       f"{others}: it is recorded under its own name; find out whose it is")
            number = ""
        elif best and best == strength:
            contested = (f"expected one submission with the number {number}, found {shown(one.name)} and {others} with "
                         f"equal claims to it: write waive if it is that of {shown(one.name)}")
            _warn(one, contested)
        students.append(Student(one, slug_of(number or one.name), number, contested))
    slugs = [student.slug.casefold() for student in students]
    for student, slug in zip(students, slugs, strict=True):
        if student.contested or slugs.count(slug) > 1:  # digits of the owner's hash, which no two share
            owner = slug_of(" ".join(_owner(student.submission, ("", 0))), alone=False)
            student.slug = f"{student.slug[:30]}-{owner[-8:]}"
    return students


def _absent(member: Member) -> Student:
    """A student on the roster of whom nothing was found."""
    error = f"expected a submission of {member.number}, found none"
    absent = Submission(member.name or member.number, number=member.number, error=error)
    absent.findings.append(Finding("FAIL", "files", error))
    return Student(absent, slug_of(member.number), member.number)


def _warn(one: Submission, text: str) -> None:
    one.findings.append(Finding("WARN", "submission", text))


def overview(students: Sequence[Student], notes: Sequence[str], owners: Owners) -> list[str]:
    """Lines for the TA: who was found where, what was passed over, and how many that makes."""
    lines = []
    for student in students:
        one = student.submission
        if not one.places:
            lines.append(f"{student.name}: on the roster, handed in nothing")
            continue
        where = "" if shown(one.name) == student.name else f" in {shown(one.name)}"
        remarks = [finding.text for finding in one.findings if finding.subject == "submission"]
        remarks += [one.error] if one.error else []
        remarks += [one.late_mark] if one.late_mark else []
        if owners.roster and not owners.is_on_roster(student.number):
            remarks.append("not on the roster")
        lines.append(f"{student.name}{where}: {len(one.files)} of 7 files" + "".join(f"; {text}" for text in remarks))
    lines += notes
    found = sum(bool(student.submission.places) for student in students)
    counted = f"{found} students with a submission"
    if owners.roster:
        counted += f", {len(students) - found} of the {len(owners.roster.members)} on the roster without one"
    return [*lines, f"{counted}, {len(notes)} notes on what was passed over" if notes else counted]
