"""The seven files by their names: which is which, which names are wrong, and what the right ones are.

Nothing is opened but notebooks and network files whose names do not say which task they belong to. The deduction for
wrong names rests on this file alone, here for the student and later for the grader.
"""
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from utils.lab import HANDIN_FILES, LabError

KINDS = {".ipynb": "notebook", ".py": "network", ".pth": "weights", ".pdf": "report"}
# Endings that stand for another: other habits of torch users, what browsers append, and Word's, so that it is met here.
OTHER_ENDINGS = {".pt": ".pth", ".ckpt": ".pth", ".doc": ".pdf", ".docx": ".pdf", ".odt": ".pdf"}
APPENDED = (".txt", ".json", ".download")
# What systems and editors leave behind; nobody means to hand it in, and nobody loses anything by it.
JUNK = {"__macosx", "__pycache__", "thumbs.db", "desktop.ini"}
STUDENT_ID = r"[A-Za-z]*[0-9][A-Za-z0-9]*"
DEPTH = 3  # how many folders deep files are looked for


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
    """A hand-in: where each part lies, whose it is, and what is wrong with its names (a line each)."""

    where: Path
    files: dict[Part, Path] = field(default_factory=dict)
    student_id: str | None = None
    problems: list[str] = field(default_factory=list)
    extra: list[Path] = field(default_factory=list)

    @property
    def missing(self) -> list[Part]:
        """The parts of which there is no file, in the hand-out's order."""
        return [part for part in PARTS if part not in self.files]


def check_id(student_id: str) -> str:
    """Returns `student_id` if it can stand in a file name. Raises LabError otherwise."""
    if not re.fullmatch(STUDENT_ID, student_id):
        raise LabError(f"expected a student number of digits and letters, such as 31355555, found {student_id!r}")
    return student_id


def is_junk(name: str) -> bool:
    """Whether a name is of those that systems and editors leave behind."""
    return name.startswith(".") or name.casefold() in JUNK


def is_packed(folder: Path) -> bool:
    """Whether a folder bears the name that handin.pack gives it; one that is alone costs nobody points."""
    return re.fullmatch(rf"Lab05_{STUDENT_ID}", folder.name) is not None


def read_folder(folder: Path, student_id: str | None = None) -> Handin:
    """Finds the seven files in `folder`, by their right names or by what else they can be told from.

    A file of a right name is that part; what is left is looked for under other spellings, then by the words in its
    name, then by its content, then by elimination. Files in folders below are found and cost the name, but for a lone
    folder Lab05_ID, as handin.pack makes it. With a `student_id` the names must carry it; without, the one that most
    of them carry.

    Raises LabError if there is no such folder, it may not be read or holds no file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LabError(f"expected a folder with the seven files, found none at {folder}: check the path")
    try:
        files = sorted(_walk(folder), key=lambda path: (len(path.relative_to(folder).parts), path))
    except OSError as error:
        raise LabError(f"expected a folder that can be read, found {error.strerror} at {error.filename}: "
                       "check its permissions") from None
    tops = {path.relative_to(folder).parts[0] for path in files}
    if len(tops) == 1 and is_packed(folder / min(tops)) and (folder / min(tops)).is_dir():
        folder = folder / min(tops)  # packed, then put into a folder or a zip as a whole
    if not files:
        raise LabError(f"expected the seven files of the hand-in, found none in {folder}: "
                       "pass the folder that holds them, or make one with python -m handin pack")
    handin = Handin(folder)
    _match(handin, files)
    _judge_ids(handin, student_id)
    _judge_names(handin)
    handin.extra = [path for path in files if path not in handin.files.values()]
    return handin


def _walk(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if is_junk(path.name) or path.is_symlink():
            continue
        if path.is_dir() and depth > 1:
            yield from _walk(path, depth - 1)
        elif path.is_file():
            yield path


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


def exact(part: Part) -> str:
    """The right name as a regular expression, with the student's number as the group `id` where it has one."""
    return "".join(re.escape(piece) for piece in re.split(r"(?=\{id\})", part.template)).replace(
        re.escape("{id}"), f"(?P<id>{STUDENT_ID})")


def _id_in(part: Part, path: Path) -> str | None:
    """The student's number in a file's name, if the name is right but for its spelling."""
    for name in (path.name, plain(path.name).upper()):  # letters in a number are capitals, most often: R12921001
        found = re.fullmatch(exact(part), name, re.IGNORECASE)
        if found and "id" in found.groupdict():
            return found["id"]
    return None


def _match(handin: Handin, files: list[Path]) -> None:
    """Gives each part its file: the first pass that finds one wins, and a file is given once."""
    loose = {part: re.compile(exact(part).replace(f"(?P<id>{STUDENT_ID})", r"\w*"), re.IGNORECASE) for part in PARTS}
    passes = (
        lambda part, path: re.fullmatch(exact(part), path.name) is not None,
        lambda part, path: loose[part].fullmatch(plain(path.name)) is not None,
        lambda part, path: _kind(path) == part.kind and part.task in (None, _task_in_name(path)),
        lambda part, path: _kind(path) == part.kind and part.task == _task_in_text(path),
        lambda part, path: _kind(path) == part.kind and _last_of_its_kind(handin, files, part.kind),
    )
    for fits in passes:
        for part in PARTS:
            if part not in handin.files:
                free = [path for path in files if path not in handin.files.values()]
                found = next((path for path in free if fits(part, path)), None)
                if found is not None:
                    handin.files[part] = found


def _kind(path: Path) -> str | None:
    return KINDS.get(Path(plain(path.name)).suffix)


def _task_in_name(path: Path) -> int | None:
    """1 or 2 if the name says so: task1, task_2, model2, network-1; not by the digits of Lab05 or of a number."""
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


def _last_of_its_kind(handin: Handin, files: list[Path], kind: str) -> bool:
    """Whether one file and one part of a kind are all that is left, so that they belong together."""
    free = [path for path in files if path not in handin.files.values() and _kind(path) == kind]
    return len(free) == 1 and sum(part.kind == kind for part in handin.missing) == 1


def _judge_ids(handin: Handin, student_id: str | None) -> None:
    ids = [found for part, path in handin.files.items() if (found := _id_in(part, path))]
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
        found = re.fullmatch(exact(part), path.name)
        if not found or found.groupdict().get("id", handin.student_id) != handin.student_id:
            handin.problems.append(f"expected {right}, found {path.name}: rename it")
