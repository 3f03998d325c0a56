"""Makes the report of a graded class from its records alone, again at any time.

    REPORT/grades.csv            a row a student, for a spreadsheet
    REPORT/results/<slug>.json   a student's results in Gradescope's format
    REPORT/index.html            the class; students/<slug>.html: a student; pairs/: network files that are alike
    REPORT/public/               with --public instead: the ranking under pseudonyms, fit to be shown to the class

No student's file is imported, unpickled or run here: network files are read as text, weights as the fingerprints that
grading took of them.
"""
import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from grading.course import Course, read_course
from grading.overrides import read_overrides
from grading.pages.class_page import class_page
from grading.pages.entries import Entry, make_entries
from grading.pages.gradebook import grades_csv, gradescope
from grading.pages.pair_page import pair_page
from grading.pages.pseudonyms import pseudonyms
from grading.pages.student_page import student_page
from grading.points import NAMING, RANK, REPORT, TASK1, TASK2, points
from grading.records import print_path, read_records, source_path
from grading.similarity.pairs import Pair, Submission, find_pairs
from utils.files import replacing, write_json
from utils.lab import TASKS, LabError

MOST_PAIR_PAGES = 300
PUBLIC = "public"


class Made(NamedTuple):
    """What a report consists of: its folder and page, how many students and how many of them ranked, what is open."""

    page: Path
    students: int
    ranked: int
    undecided: int
    unread: int
    pairs: int
    notes: list[str]


def add_arguments(commands: argparse._SubParsersAction) -> None:
    """Adds `report` to the TA's commands."""
    parser = commands.add_parser("report", help="make the class report from the records",
                                 description="Makes grades.csv, results/ (Gradescope) and index.html from the records "
                                             "of a graded class. Nothing is graded again.")
    parser.add_argument("out", type=Path, metavar="REPORT", help="the folder that `grade --out` filled")
    parser.add_argument("--course", type=Path, metavar="FILE", help="the course's points and rules")
    parser.add_argument("--public", action="store_true",
                        help="make REPORT/public/ instead: pseudonyms, figures and ranks, no points, logs or pictures")
    parser.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> None:
    """The command: makes the report and says where it is."""
    made = report(args.out, read_course(args.course), args.public)
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{made.students} students, {made.ranked} ranked")
    if not args.public:
        print(f"to decide: {made.undecided}, reports to read: {made.unread}, pairs alike: {made.pairs}")
    print(made.page)


def report(out: Path, course: Course | None = None, public: bool = False) -> Made:
    """Writes the report of the records in `out`, or with `public` the one that may be shown.

    Raises LabError for a folder without records, an overrides.csv that cannot be understood, and a full disk; an
    unreadable record is left out and named in the notes.
    """
    out, course, notes = Path(out), course or read_course(), []
    records = read_records(out, notes.append)
    if not records:
        raise LabError(f"expected the records of a graded class, found none in {out / 'records'}: "
                       "python -m grading grade SUBMISSIONS --out REPORT makes them")
    everybody = points(out, course, records, notes.append)
    names = pseudonyms(out, [record["slug"] for record in records])
    if public:
        entries = make_entries(records, everybody, course.thresholds, pseudonyms=names)
        folder = out / PUBLIC
        pages = {f"{entry.page}.html": student_page(entry, folder) for entry in entries}
        _write_all(folder / "students", pages)
        _write(folder / "index.html", class_page(entries, public=True))
        return _made(folder, entries, [], notes)
    pairs = similar(out, records)
    entries = make_entries(records, everybody, course.thresholds, pairs)
    by_slug = {entry.record["slug"]: entry for entry in entries}
    rows = read_overrides(out)
    side_by_side = [pair for pair in pairs if pair.code is not None][:MOST_PAIR_PAGES]
    shown = {id(pair): f"{index}.html" for index, pair in enumerate(side_by_side, 1)}
    _write_all(out / "pairs", {shown[id(pair)]: pair_page(
        pair, by_slug[pair.first], by_slug[pair.second],
        (source_path(out, pair.first, pair.task), source_path(out, pair.second, pair.task))) for pair in side_by_side})
    _write_all(out / "students", {f"{entry.page}.html": student_page(
        entry, out, [row for row in rows if row.student == entry.page], by_slug, shown) for entry in entries})
    most = dict(zip((TASK1, TASK2, RANK, REPORT, NAMING),
                    (course.points[key] for key in ("task1", "task2", "rank", "report", "naming")), strict=True))
    for entry in entries:
        write_json(out / "results" / f"{entry.page}.json", gradescope(entry, most, names[entry.page]))
    _remove_others(out / "results", [f"{entry.page}.json" for entry in entries])
    with replacing(out / "grades.csv") as temporary:
        temporary.write_bytes(grades_csv(entries, names))
    _write(out / "index.html", class_page(entries, rows, pairs, shown))
    return _made(out, entries, pairs, notes)


def similar(out: Path, records: Sequence[dict]) -> list[Pair]:
    """The pairs of submissions that are alike, of both tasks."""
    pairs = []
    for task in TASKS:
        submissions = []
        for record in records:
            files, slug = record.get("files") or {}, record["slug"]
            network, weights = (files.get(f"{kind} {task}") or {} for kind in ("network", "weights"))
            submissions.append(Submission(slug, source_path(out, slug, task), network.get("sha256") or "",
                                          _fingerprint(print_path(out, slug, task)), weights.get("sha256") or ""))
        pairs += find_pairs(task, submissions)
    return pairs


def _made(folder: Path, entries: Sequence[Entry], pairs: Sequence[Pair], notes: list[str]) -> Made:
    pending = [line for entry in entries for line in entry.points.pending]
    return Made(folder / "index.html", len(entries), sum(entry.points.rank is not None for entry in entries),
                sum(not line.startswith("report") for line in pending),
                sum(line.startswith("report") for line in pending), len(pairs), notes)


def _fingerprint(path: Path) -> dict | None:
    """What grading noted of the weights; None where there are none, or where the note is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("storages"), list) else None


def _write(path: Path, page: str) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(page.encode("utf-8", "replace"))


def _write_all(folder: Path, pages: dict[str, str]) -> None:
    """Writes the pages, and removes those of an earlier report that are none of them."""
    for name, page in pages.items():
        _write(folder / name, page)
    _remove_others(folder, pages)


def _remove_others(folder: Path, names: Iterable[str]) -> None:
    kept = set(names)
    for path in folder.glob("*") if folder.is_dir() else ():
        if path.name not in kept and path.suffix in (".html", ".json") and path.is_file():
            path.unlink()
