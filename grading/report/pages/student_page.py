"""students/<slug>.html: everything about one student's submission."""
from collections.abc import Mapping, Sequence
from pathlib import Path

from grading.report.overrides import Override
from grading.report.pages.entries import StudentEntry
from grading.report.pages.page import dicts, figure, render
from grading.report.pages.task import shown_task
from grading.report.points import RANK
from grading.report.receipts import ASKED_AS

MOST_LAYERS = 400
MOST_ALIKE = 40


def student_page(entry: StudentEntry, out: Path, most_points: float, rows: Sequence[Override] = (),
                 by_slug: Mapping[str, StudentEntry] | None = None, pair_pages: Mapping[int, str] | None = None,
                 history: Sequence[dict] = ()) -> str:
    """The page as HTML. out: the report folder, with the images. most_points: of all items together.

    rows: the student's rows of overrides.csv; by_slug: the others; pair_pages: id(pair) -> the page that shows it.
    history: the student's entries (grading.report.history).
    """
    record, by_item = entry.record, {row.item: row for row in rows}
    graded = str(record.get("graded") or "?").replace("T", " ").rstrip("Z")
    submitted = record.get("submitted")
    facts = [f"handed in {submitted}" if submitted else "", f"graded {graded}",
             figure(record.get("seconds"), "{:,.0f} s")]
    files = record.get("files")
    return render(
        "student.html", entry=entry, public=entry.public, facts=facts, most_points=most_points, RANK=RANK,
        points=[(item, value, by_item.get(ASKED_AS.get(item, item))) for item, value in entry.points.items.items()],
        owner=by_item.get("owner"),
        files={part: file if isinstance(file, dict) else {} for part, file in files.items()}
        if isinstance(files, dict) else {},
        findings=[finding for finding in dicts(record.get("findings")) if finding.get("level") != "OK"],
        tasks={task: shown_task(entry.task(task), out) for task in entry.thresholds}, most_layers=MOST_LAYERS,
        by_slug=by_slug or {}, pair_pages=pair_pages or {}, id=id, most_alike=MOST_ALIKE, history=history)
