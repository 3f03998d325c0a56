"""Makes the report of a graded class from its records alone, again at any time.

    REPORT/grades.csv            a row a student, for a spreadsheet
    REPORT/results/<slug>.json   a student's results in Gradescope's format
    REPORT/index.html            the class; students/<slug>.html: a student; pairs/: network files that are alike
    REPORT/receipts/             a signed receipt a student (grading.report.receipts)
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
from grading.errors import errors_path, read_errors, show_errors
from grading.lock import table_lock
from grading.records import print_path, read_records, source_path
from grading.report.history import keep_history
from grading.report.keys import signing_key
from grading.report.overrides import Override, read_overrides
from grading.report.pages.class_page import class_page
from grading.report.pages.entries import StudentEntry, make_entries
from grading.report.pages.gradebook import grades_csv, gradescope
from grading.report.pages.pair_page import pair_page
from grading.report.pages.pseudonyms import pseudonyms
from grading.report.pages.student_page import student_page
from grading.report.points import COURSE_NAMES, points
from grading.report.receipts import make_contents, write_receipts
from grading.report.similarity.pairs import AlikePair, Cluster, TaskFiles, find_pairs
from utils.files import replacing, write_json
from utils.lab import TASKS, LabError

MOST_PAIR_PAGES = 300
PUBLIC = "public"


class Report(NamedTuple):
    """What was made: the page of the class, how many students and how many of them ranked, what is open."""

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
                        help="make REPORT/public/ instead: pseudonyms, figures and ranks, no points, logs or images")
    parser.add_argument("--key", type=Path, metavar="FILE",
                        help="the key that signs the receipts (default: one in your config folder, made on first use)")
    parser.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> None:
    """The command: makes the report and says where it is."""
    made = report(args.out, read_course(args.course), args.public, args.key)
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{made.students} students, {made.ranked} ranked")
    if not args.public:
        print(f"to decide: {made.undecided}, reports to read: {made.unread}, pairs alike: {made.pairs}")
    print(made.page)


def report(out: Path, course: Course | None = None, public: bool = False, key: Path | None = None) -> Report:
    """Writes the report of the records in `out`, or with `public` the one that may be shown.

    Raises LabError for a folder without records, an overrides.csv that is not understood, and a full disk; an
    unreadable record is left out and named in the notes.
    """
    out, course, notes = Path(out), course or read_course(), []
    records = read_records(out, notes.append)
    if not records:
        raise LabError(f"expected the records of a graded class, found none in {out / 'records'}: "
                       "python -m grading grade SUBMISSIONS --out REPORT makes them")
    everybody = points(out, course, records, notes.append)
    names = pseudonyms(out, [record["slug"] for record in records])
    pairs, clusters = ([], []) if public else find_all_pairs(out, records)
    entries = make_entries(records, everybody, course.thresholds, pairs, clusters, names if public else None)
    if public:
        _write_public(out / PUBLIC, entries)
    else:
        rows = read_overrides(out)
        contents = make_contents(records, course, everybody, rows)
        write_receipts(out, contents, signing_key(key))
        with table_lock(out):
            history = keep_history(out, contents)
        _write_private(out, course, entries, pairs, clusters, names, rows, history)
    pending = [line for entry in entries for line in entry.points.pending]
    unread = sum(line.startswith("report") for line in pending)
    return Report((out / PUBLIC if public else out) / "index.html", len(entries),
                  sum(entry.points.rank is not None for entry in entries), len(pending) - unread, unread, len(pairs),
                  notes)


def find_all_pairs(out: Path, records: Sequence[dict]) -> tuple[list[AlikePair], list[Cluster]]:
    """The pairs and clusters of students whose work is alike, of both tasks."""
    pairs, clusters = [], []
    for task in TASKS:
        everybody = []
        for record in records:
            files, slug = record.get("files") or {}, record["slug"]
            network, weights = (files.get(f"{kind} {task}") or {} for kind in ("network", "weights"))
            everybody.append(TaskFiles(slug, source_path(out, slug, task), network.get("sha256") or "",
                                       _fingerprint(print_path(out, slug, task)), weights.get("sha256") or "",
                                       read_errors(errors_path(out, slug, task))))
        found = find_pairs(task, everybody)
        pairs += found[0]
        clusters += found[1]
    return pairs, clusters


def _write_public(folder: Path, entries: Sequence[StudentEntry]) -> None:
    _write_all(folder / "students", {f"{entry.page}.html": student_page(entry, folder, 0) for entry in entries})
    _write(folder / "index.html", class_page(entries, public=True))


def _write_private(out: Path, course: Course, entries: Sequence[StudentEntry], pairs: Sequence[AlikePair],
                   clusters: Sequence[Cluster], names: dict[str, str], rows: Sequence[Override],
                   history: dict[str, list[dict]]) -> None:
    by_slug = {entry.record["slug"]: entry for entry in entries}
    most = {item: course.points[key] for item, key in COURSE_NAMES.items()}
    side_by_side = [pair for pair in pairs if pair.code is not None or pair.errors is not None][:MOST_PAIR_PAGES]
    shown = {id(pair): f"{index}.html" for index, pair in enumerate(side_by_side, 1)}
    _write_all(out / "pairs", {shown[id(pair)]: pair_page(
        pair, by_slug[pair.first], by_slug[pair.second],
        (source_path(out, pair.first, pair.task), source_path(out, pair.second, pair.task)),
        _draw_errors(out, pair, shown[id(pair)])) for pair in side_by_side})
    most_points = sum(value for value in most.values() if value > 0)
    _write_all(out / "students", {f"{entry.page}.html": student_page(
        entry, out, most_points, [row for row in rows if row.student == entry.page], by_slug, shown,
        history[entry.page]) for entry in entries})
    for entry in entries:
        write_json(out / "results" / f"{entry.page}.json", gradescope(entry, most, names[entry.page]))
    _remove_others(out / "results", [f"{entry.page}.json" for entry in entries])
    with replacing(out / "grades.csv") as temporary:
        temporary.write_bytes(grades_csv(entries, names))
    _write(out / "index.html", class_page(entries, rows, pairs, clusters, shown))


def _draw_errors(out: Path, pair: AlikePair, page: str) -> str:
    """Draws the error maps of a pair beside its page; returns the file's name, "" for a pair without such."""
    if pair.errors is None:
        return ""
    maps = [read_errors(errors_path(out, slug, pair.task))[0] for slug in (pair.first, pair.second)]
    name = page.replace(".html", ".png")
    with replacing(out / "pairs" / name) as temporary:
        show_errors(*maps).save(temporary, format="png", optimize=True)
    return name


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
    _remove_others(folder, [*pages, *(name.replace(".html", ".png") for name in pages)])


def _remove_others(folder: Path, names: Iterable[str]) -> None:
    kept = set(names)
    for path in folder.glob("*") if folder.is_dir() else ():
        if path.name not in kept and path.suffix in (".html", ".json", ".png") and path.is_file():
            path.unlink()
