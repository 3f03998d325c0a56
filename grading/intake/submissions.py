"""Finds the submissions of a class: what lies in a folder or zip, divided by student.

    Ada Lovelace_4000_assignsubmission_file_/...      Moodle and Canvas, see platforms.py
    submitted/31355555/lab05/...                      nbgrader
    31355555/   31355555.zip   31355555 (1).zip       anything else with a folder or zip for each student
    Lab05_task1_31355555.ipynb, network_task1.py, ... one submission alone

A folder or zip may wrap the class, or a section of it. It is divided only where its parts have owners of their own:
by a platform's name, by a number or name on the roster, or by a number in the part's name. What the names of single
files claim divides nothing. Only names are read here; opening.py opens each submission by itself.
"""
import datetime
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grading.intake.file_names import is_kind, number_in_file, shared_parts
from grading.intake.listing import UNKNOWN, Item, Moment, Place, list_place, names_below, read_text
from grading.intake.platforms import PlatformName, is_part, read_names
from handin.findings import Finding
from handin.names import PARTS
from utils.lab import LabError

ALONE = 4     # of the seven files beside each other: then the folder is one submission
WRAPPERS = 4  # folders or zips around a class that are opened
NBGRADER = {"source", "release", "autograded", "feedback", "gradebook.db"}
LAB_FOLDER = re.compile(r"lab[ _-]?0?5", re.IGNORECASE)
Inside = tuple[list["Submission"], list[str]]  # submissions in a container, and notes


@dataclass(eq=False)
class Submission:
    """What one student handed in at one time: where it was found and, once it was opened, what is in it.

    name: its name in the class's folder. owner, account, late_mark: what a platform says (platforms.PlatformName).
    moment: of its latest file. number: the student's, by the platform, the roster or the name; the names of the files
    must carry it. claimed: the number that most file names carry. files: subject -> path, sha256, bytes. naming: what
    is wrong with the names. error: why it could not be opened; ours: the reason lies in this machine.
    """

    name: str
    places: tuple[Place, ...] = ()
    owner: str = ""
    person: str = ""
    account: str = ""
    moment: Moment = UNKNOWN
    late_mark: str = ""
    number: str = ""
    claimed: str = ""
    files: dict[str, dict] = field(default_factory=dict)
    missing: list[str] = field(default_factory=lambda: [part.subject for part in PARTS])
    naming: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    error: str = ""
    ours: bool = False


def find_submissions(path: Path, numbers_in: Callable[[str], Sequence[str]], zone: datetime.tzinfo | None = None
                     ) -> tuple[list[Submission], list[str]]:
    """The submissions in `path`, sorted by name, and a note for each thing that was passed over.

    numbers_in: the students' numbers that a name carries (students.Owners). zone: of the local times in zips.
    Raises LabError where there is nothing at `path`, no submission in it, or files of several students mixed.
    """
    path = Path(path)
    if not path.exists():
        raise LabError(f"expected the class's submissions, found nothing at {path}: check the path")
    finder = _Finder(numbers_in, zone)
    label = path.stem if path.is_file() else path.resolve().name
    submissions = finder.find(Place(path), label)
    if not submissions:
        raise LabError(f"expected a folder or zip for each student, or a platform's zip of all, found none in {path}: "
                       "check the path")
    return sorted(submissions, key=lambda submission: natural(submission.name)), finder.notes


def natural(name: str) -> list[str]:
    """A key that sorts `x (2)` before `x (10)`."""
    return [piece.zfill(20) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", name)]


class _Finder:
    """The way from a folder or zip to submissions, with notes on what was passed over."""

    def __init__(self, numbers_in: Callable[[str], Sequence[str]], zone: datetime.tzinfo | None) -> None:
        self.numbers_in, self.zone = numbers_in, zone
        self.notes: list[str] = []

    def find(self, place: Place, label: str, depth: int = 0) -> list[Submission]:
        """The submissions at a place. `label` is its name, in case it turns out to be a single submission."""
        listing = list_place(place, self.zone)
        self.notes += listing.notes
        if (found := self._nbgrader(listing.items, label)) is not None:
            return found
        named = read_names(listing.items)
        containers = [item for item in listing.items if item.is_container and item.name not in named]
        loose = [item for item in listing.items if not item.is_container and item.name not in named]
        if not named and self._is_one(containers, loose):
            return self._one(listing.items, loose, label)
        found = self._by_platform([(item, named[item.name]) for item in listing.items if item.name in named])
        divided = self._divide(containers, depth) if not named and depth < WRAPPERS else {}
        for item in containers:
            inner, notes = divided.get(item.name) or ([Submission(item.name, (item.place,), moment=item.moment)], [])
            if item.name in divided and len(containers) > 1:
                for one in inner:  # two sections may have a student of the same name
                    one.name = f"{item.name}/{one.name}"
            found += inner
            self.notes += notes
        return found + self._pass_over(loose, {number for one in found for number in self.numbers_in(one.name)})

    def _divide(self, containers: list[Item], depth: int) -> dict[str, Inside]:
        """The containers that hold several students' submissions, by name.

        One of several that has an owner itself is not divided, whatever its parts claim. If its parts have no owners
        either, it is divided only if all containers look like that: a folder for each section of a class, of which one
        may have one student.
        """
        alone = len(containers) == 1
        inner = {item.name: self._inside(item, depth) for item in containers
                 if alone or not self.numbers_in(item.name)}
        inner = {name: found for name, found in inner.items() if found is not None}
        several = {name: found for name, found in inner.items() if len(self._owners(found[0])) > 1}
        whole = {name: found for name, found in inner.items() if len(found[0]) > 1 or found[0][0].owner}
        return inner if len(inner) == len(containers) and (several or inner == whole) else several

    def _inside(self, item: Item, depth: int) -> Inside | None:
        """What lies in a container, None unless it is several submissions, a platform's, or one with an owner."""
        if not item.can_be_listed():
            return None
        finder = _Finder(self.numbers_in, self.zone)
        try:
            found = finder.find(item.place, Path(item.name).stem if item.is_archive else item.name, depth + 1)
        except LabError:
            return None
        return (found, finder.notes) if len(found) > 1 or self._owners(found) else None

    def _owners(self, submissions: list[Submission]) -> set[str]:
        """The owners that submissions have by a platform, or by the one number in their names."""
        numbers = [self.numbers_in(one.name) for one in submissions]
        return {one.owner or "".join(found) for one, found in zip(submissions, numbers, strict=True)
                if one.owner or len(found) == 1}

    def _is_one(self, containers: list[Item], loose: list[Item]) -> bool:
        """Whether folders, zips and files beside each other are one student's."""
        if not containers:
            return True
        files = shared_parts((item.name for item in loose), self.numbers_in.form)
        people = set().union(*files.values()) - {""}
        owned = {number.casefold() for item in containers for number in self.numbers_in(item.name)}
        if owned:
            return len(files) >= ALONE and owned <= people
        if len(files) >= ALONE and len(people) <= 1:
            return True
        below = [names_below(item) for item in containers]
        if files and not any(is_kind(name) for names in below for name in names) and all(
                item.can_be_listed() for item in containers):
            return True  # figures/ beside the files: no hand-in, which decides nothing
        inside = [found for found in (files, *(shared_parts(names, self.numbers_in.form) for names in below)) if found]
        same = [found for found in inside if any(found.keys() & other.keys() for other in inside if other is not found)]
        if same:  # old/ and final/ of one student, or the folders of several
            people = set().union(*(ids for found in same for ids in found.values())) - {""}
            return len(people) == 1 and all(is_part(Path(item.name).stem) for item in containers)
        return (len(containers) > 1 or bool(files)) and any(is_part(Path(item.name).stem) for item in containers)

    def _one(self, items: list[Item], loose: list[Item], label: str) -> list[Submission]:
        """All items as one submission; loose files of several students on the roster as theirs.

        Raises LabError for files of several students that nothing divides.
        """
        numbers = self._by_number(loose)
        if len(numbers) > 2 or (len(numbers) == 2 and min(map(len, numbers.values())) > 1):
            if found := self._pass_over(loose, set()):
                return found
            raise LabError(f"expected a folder or zip for each student, found files of {', '.join(numbers)} beside "
                           f"each other in {label}: put each student's into a folder with the number as its name")
        if not any(item.is_container or is_kind(item.name) for item in items):
            return []
        return [Submission(label, tuple(item.place for item in items), moment=max(item.moment for item in items))]

    def _by_platform(self, named: list[tuple[Item, PlatformName]]) -> list[Submission]:
        """A submission for each of the platform's owners. One of a text field alone holds no file, and is listed."""
        owners = defaultdict(list)
        for item, told in named:
            owners[told.owner].append((item, told))
        found = []
        for owner, pieces in owners.items():
            pieces = sorted(((item, told) for item, told in pieces if told.kind == "file"),
                            key=lambda piece: piece[1].attempt) or pieces
            single = pieces[0][0].name if len(pieces) == 1 and not pieces[0][1].rest else ""
            moodle = "assignsubmission" in pieces[0][0].name
            found.append(Submission(
                single or (f"{owner}_assignsubmission_file" if moodle else owner), tuple(_places(pieces)), owner,
                pieces[0][1].person, pieces[0][1].account, max(item.moment for item, _ in pieces),
                next((told.late for _, told in pieces if told.late), "")))
        return found

    def _pass_over(self, loose: list[Item], taken: set[str]) -> list[Submission]:
        """Notes on files beside the submissions. The roster's owner is the only one that such a file can have."""
        groups, found = self._by_number(loose), []
        grouped = [item for group in groups.values() for item in group]
        self.notes += [f"passed over {item.name}: it lies beside the submissions, and its name does not say whose it is"
                       for item in loose if item not in grouped and is_kind(item.name)]
        for number, items in groups.items():
            names = ", ".join(item.name for item in items)
            if number in taken:
                self.notes.append(f"passed over {names}: {number} has a submission of their own; put it there if it "
                                  "belongs to it")
            elif getattr(self.numbers_in, "is_on_roster", lambda number: False)(number):
                found.append(Submission(number, tuple(item.place for item in items),
                                        moment=max(item.moment for item in items)))
            else:
                self.notes.append(f"passed over {names}: a file's name alone does not make a student; put it into a "
                                  f"folder {number}, or name {number} on the roster")
        return found

    def _by_number(self, loose: list[Item]) -> dict[str, list[Item]]:
        """Files by the student's number in their names."""
        groups = defaultdict(list)
        for item in loose:
            if numbers := self.numbers_in(number_in_file(item.name, self.numbers_in.form)):
                groups[numbers[0]].append(item)
        return groups

    def _nbgrader(self, items: list[Item], label: str) -> list[Submission] | None:
        """The submissions of nbgrader's tree, or of one like it: each student's folder holds just one, always the same.

        Its name is no student's choice. None for any other tree.
        """
        names = {item.name.casefold(): item for item in items}
        if "submitted" in names and (len(items) == 1 or names.keys() & NBGRADER):
            others = [item.name for item in items if item is not names["submitted"]]
            self.notes += [f"passed over {', '.join(others)}: beside nbgrader's submitted/"] if others else []
            label, items = "submitted", list_place(names["submitted"].place, self.zone).items
        folders = [item for item in items if item.is_folder]
        if not folders or read_names(items):
            return None
        inside = {item.name: list_place(item.place, self.zone).items for item in folders}
        tree = label.casefold() == "submitted"
        if not tree and not self._is_same_folder(list(inside.values())):
            return None
        found = []
        for item in folders:
            labs = [one for one in inside[item.name] if one.is_folder]
            labs = [one for one in labs if LAB_FOLDER.search(one.name)] or labs
            if len(labs) > 1:
                self.notes.append(f"passed over {item.name}: it has several assignments "
                                  f"({', '.join(one.name for one in labs)}); pass a tree with the lab's alone")
            else:
                lab = labs[0] if labs else item
                found.append(Submission(item.name, (lab.place,), item.name if tree else "", item.name,
                                        moment=_nbgrader_time(lab.place) or lab.moment))
        taken = {number for item in folders for number in self.numbers_in(item.name)}
        return found + self._pass_over([item for item in items if not item.is_folder], taken)

    def _is_same_folder(self, inside: list[list[Item]]) -> bool:
        """Whether several folders each hold one folder with files, all of one name that is nobody's."""
        if len(inside) < 2 or len({tuple(item.name for item in items) for items in inside}) > 1:
            return False
        return all(len(items) == 1 and items[0].is_folder and not self.numbers_in(items[0].name)
                   and any(not item.is_container for item in list_place(items[0].place, self.zone).items)
                   for items in inside)


def _places(pieces: list[tuple[Item, PlatformName]]) -> list[Place]:
    """Where a student's pieces lie, each under the name that the student gave; of one name the last attempt has it."""
    last = {told.rest: index for index, (_, told) in enumerate(pieces)}
    return [Place(item.place.path, item.place.within,
                  told.rest if told.rest and last[told.rest] == index else "" if item.is_folder else item.name)
            for index, (item, told) in enumerate(pieces)]


def _nbgrader_time(place: Place) -> Moment | None:
    """The time in nbgrader's timestamp.txt, such as 2026-11-30 15:58:23.948203 UTC."""
    text = read_text(place, "timestamp.txt")
    found = re.match(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(\.\d+)? ?(UTC|Z|\+00:?00)", text)
    try:
        return Moment(datetime.datetime.fromisoformat(f"{found[1]}+00:00").timestamp()) if found else None
    except ValueError:
        return None
