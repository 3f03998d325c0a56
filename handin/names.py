"""The seven files by their names: which is which, which names are wrong, and what the right ones are.

Opened are only zips, for what is in them, and notebooks and network files whose names do not say the task. The
deduction for wrong names rests on this file alone, here for the student and later for the grader.
"""
import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from handin.weights import is_weights
from utils.files import full_path, is_junk
from utils.lab import HANDIN_FILES, STUDENT_NUMBER, STUDENT_NUMBER_FORM, LabError

KINDS = {".ipynb": "notebook", ".py": "network", ".pth": "weights", ".pdf": "report"}
# Endings that stand for another: other habits of torch users, and Word's, so that check_report tells what it is.
OTHER_ENDINGS = {".pt": ".pth", ".ckpt": ".pth", ".doc": ".pdf", ".docx": ".pdf", ".odt": ".pdf"}
APPENDED = (".txt", ".json", ".download", ".zip", ".tar")  # by browsers, and by torch users (.pth.tar)
DEPTH = 3  # how many folders deep files are looked for
MOST_READ = 50  # notebooks and network files that are read for the task they mention


@dataclass(frozen=True)
class Part:
    """One of the seven files: what it is, of which task (None for the report), and its name with {id} in it."""

    kind: str
    task: int | None
    template: str

    @property
    def subject(self) -> str:
        """For people: notebook 1, weights 2, report."""
        return f"{self.kind} {self.task}" if self.task else self.kind

    def name(self, student_id: str | None) -> str:
        """The right file name; with the letters ID where the student's number is not known."""
        return self.template.format(id=student_id or "ID")


def _part(template: str) -> Part:
    task = re.search(r"task(\d)", template)
    return Part(KINDS[Path(template).suffix], int(task[1]) if task else None, template)


PARTS = tuple(_part(template) for template in HANDIN_FILES)


@dataclass
class Handin:
    """A hand-in: where each part lies, whose it is, and what is wrong with its names (a line each).

    form: of a student's number.
    """

    where: Path
    form: str = STUDENT_NUMBER
    files: dict[Part, Path] = field(default_factory=dict)
    student_id: str | None = None
    problems: list[str] = field(default_factory=list)
    extra: list[Path] = field(default_factory=list)

    @property
    def missing(self) -> list[Part]:
        """The parts of which there is no file, in the hand-out's order."""
        return [part for part in PARTS if part not in self.files]


def number_pattern(form: str) -> str:
    """A regular expression for numbers of a form within a larger one; small letters and capitals are the same."""
    return f"(?ai:{form})"


def check_id(student_id: str) -> str:
    """Returns `student_id` if it has the form of a student number. Raises LabError otherwise."""
    if not re.fullmatch(number_pattern(STUDENT_NUMBER), student_id):
        raise LabError(f"expected a student number of {STUDENT_NUMBER_FORM}, found {student_id!r}: pass your own with "
                       "--id")
    return student_id


def is_packed(folder: Path, form: str = STUDENT_NUMBER) -> bool:
    """Whether a folder has the name that handin.pack gives it."""
    return re.fullmatch(f"Lab05_{number_pattern(form)}", folder.name) is not None


def read_folder(folder: Path, student_id: str | None = None, form: str = STUDENT_NUMBER) -> Handin:
    """Finds the seven files in `folder`, by their right names or by what else tells them.

    A file with a right name is that part. The others are looked for by other spellings, then by the words in their
    names, then by their content, then by elimination. Files in folders below are found too, but that is a naming
    error, unless all lie in one folder Lab05_ID, as handin.pack makes it. All names must have the number `student_id`
    in them, or without it the one of the form `form` that most of them have. Weights that a browser unpacked are a part
    that is a folder.

    Raises LabError if there is no such folder, it may not be read or holds no file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LabError(f"expected a folder with the seven files, found none at {full_path(folder)}: check the path")
    try:
        files = sorted(_walk(folder), key=lambda path: (len(path.relative_to(folder).parts), path))
    except OSError as error:
        raise LabError(f"expected a folder that can be read, found {error.strerror} at {error.filename}: "
                       "check its permissions") from None
    tops = {path.relative_to(folder).parts[0] for path in files}
    if len(tops) == 1 and is_packed(folder / min(tops), form) and (folder / min(tops)).is_dir():
        folder = folder / min(tops)  # packed, then put into a folder or a zip as a whole
    if not files:
        raise LabError(f"expected the seven files of the hand-in, found none in {folder}: "
                       "pass the folder that holds them, or make one with python -m handin pack")
    handin = Handin(folder, form)
    _match(handin, files)
    _judge_ids(handin, student_id)
    _judge_names(handin)
    handin.extra = [path for path in files if path not in handin.files.values()]
    return handin


def _walk(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if is_junk(path.name) or path.is_symlink():
            continue
        if path.is_file() or (path.is_dir() and is_weights(path)):
            yield path
        elif path.is_dir() and depth > 1:
            yield from _walk(path, depth - 1)


@functools.lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """A file name without what copying, typing and other keyboards add: `Lab05 Task1 (1).IPYNB` to `lab05_task1.ipynb`.

    Full-width letters, as Asian keyboards type them, become the usual ones (Unicode's NFKC).
    """
    name = unicodedata.normalize("NFKC", name).casefold().strip()
    name = "".join(char for char in name if unicodedata.category(char) != "Cf")  # zero-width characters
    for ending in APPENDED:
        stem = name.removesuffix(ending)
        if Path(stem).suffix in KINDS:
            name = stem
    stem, suffix = Path(name).stem, Path(name).suffix
    stem = re.sub(r"(\(\d+\)|\bcopy( of)?\b|\bkopie\b|副本|複製)", " ", stem)
    return re.sub(r"[\s\-_.]+", "_", stem).strip("_") + OTHER_ENDINGS.get(suffix, suffix)


def exact(part: Part, form: str = STUDENT_NUMBER) -> str:
    """The right name as a regular expression, with the student's number as the group `id` where it has one."""
    return _pattern(part, f"(?P<id>{number_pattern(form)})")


def _pattern(part: Part, number: str) -> str:
    return re.escape(part.template).replace(re.escape("{id}"), number)


def _id_in(part: Part, path: Path, form: str) -> str | None:
    """The student's number in a file's name, if the name is right but for its spelling."""
    for name in (path.name, plain(path.name).upper()):  # letters in a number are capitals, most often: R12921001
        found = re.fullmatch(exact(part, form), name, re.IGNORECASE)
        if found and "id" in found.groupdict():
            return found["id"]
    return None


def _match(handin: Handin, files: list[Path]) -> None:
    """Gives each part its file: the first pass that finds one wins, and a file is given once."""
    loose = {part: re.compile(_pattern(part, r"\w*"), re.IGNORECASE) for part in PARTS}
    kinds = {path: _kind(path) for path in files}
    texts: dict[Path, int | None] = {}  # what was read, each file once

    def task_in_text(path: Path) -> int | None:
        if path not in texts:
            texts[path] = _task_in_text(path) if len(texts) < MOST_READ else None
        return texts[path]

    passes = (
        lambda part, path, last: re.fullmatch(exact(part, handin.form), path.name) is not None,
        lambda part, path, last: loose[part].fullmatch(plain(path.name)) is not None,
        lambda part, path, last: kinds[path] == part.kind and part.task in (None, _task_in_name(path)),
        lambda part, path, last: kinds[path] == part.kind and part.task == task_in_text(path),
        lambda part, path, last: kinds[path] == part.kind and last,
    )
    for fits in passes:
        for part in handin.missing:
            taken = set(handin.files.values())
            free = [path for path in files if path not in taken]
            # One file and one part of a kind are all that is left, so they belong together.
            last = sum(kinds[path] == part.kind for path in free) == 1 and \
                sum(other.kind == part.kind for other in handin.missing) == 1
            found = next((path for path in free if fits(part, path, last)), None)
            if found is not None:
                handin.files[part] = found


def _kind(path: Path) -> str | None:
    kind = KINDS.get(Path(plain(path.name)).suffix)
    return "weights" if kind is None and (path.is_dir() or path.suffix == ".zip") and is_weights(path) else kind


def _task_in_name(path: Path) -> int | None:
    """1 or 2 if the name says so: task1, task_2, model2, network-1. The digits of Lab05 or of a number do not count."""
    digits = set(re.findall(r"(?:task|model|network|net|weights?)_?([12])(?!\d)", plain(path.name)))
    return int(digits.pop()) if len(digits) == 1 else None


def _task_in_text(path: Path) -> int | None:
    """1 or 2 by what a notebook or a network file mentions most; None for other files, and for a tie."""
    if _kind(path) not in ("notebook", "network"):
        return None
    with path.open("rb") as file:
        text = file.read(1 << 20).decode("utf-8", errors="replace").casefold()
    signs = {1: ("test_task1", "model_task1", "task 1", "class unet"),
             2: ("test_task2", "model_task2", "task 2", "class lowcomplexitynet")}
    counts = {task: sum(text.count(sign) for sign in words) for task, words in signs.items()}
    return max(counts, key=counts.get) if counts[1] != counts[2] else None


def _judge_ids(handin: Handin, student_id: str | None) -> None:
    ids = [found for part, path in handin.files.items() if (found := _id_in(part, path, handin.form))]
    different = list({found.upper(): found for found in reversed(ids)}.values())[::-1]
    handin.student_id = student_id or (Counter(ids).most_common(1)[0][0] if ids else None)
    if len(different) > 1:
        handin.problems.append(f"expected one student number in all names, found {' and '.join(different)}: "
                               "rename the files that carry the wrong one")
    elif student_id and different and different != [student_id]:
        handin.problems.append(f"expected the student number {student_id} in the names, found {different[0]}: rename")


def _judge_names(handin: Handin) -> None:
    below = sorted({path.parent.relative_to(handin.where).as_posix() for path in handin.files.values()} - {"."})
    for folder in below:
        handin.problems.append(f"expected the seven files at the top, found some in {folder}/: move them up")
    for part, path in handin.files.items():
        right = part.name(handin.student_id)
        if path.is_dir():
            handin.problems.append(f"expected {right}, found the folder {path.name}: a browser has unpacked the file, "
                                   "hand in the file itself")
        elif path.name != right:
            number = "" if handin.student_id or "{id}" not in part.template else \
                f", with your student number ({STUDENT_NUMBER_FORM}) for ID"
            handin.problems.append(f"expected {right}, found {path.name}: rename it{number}")
