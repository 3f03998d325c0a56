"""index.html: the class on one page. Leaderboard, costs, what a person has to decide, flags, who is alike."""
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from grading.report.overrides import Override
from grading.report.pages.charts import Point, scatter
from grading.report.pages.entries import StudentEntry
from grading.report.pages.page import number, render
from grading.report.points import COURSE_NAMES, REPORT
from grading.report.similarity.pairs import AlikePair, Cluster, groups
from utils.lab import FOM_OFFSET, TASKS

MOST_PAIRS = 12  # of one group of students whose work is alike


class Column(NamedTuple):
    """A heading of the leaderboard: its class, the order of the first click, and what it tells when pointed at."""

    title: str
    look: str = "number"
    first: str = "ascending"
    hint: str = ""


# The leaderboard's headings by group; templates/class.html has a cell for each, in this order.
COLUMNS = {
    "": (Column("Rank", hint="by figure of merit, equals by mIoU"), Column("Student", "text student")),
    "Task 1": (Column("mIoU", "number start", "descending"),),
    "Task 2": (Column("mIoU", "number start", "descending"), Column("MACs"), Column("KB"),
               Column("FoM", hint=f"MACs^2 x KB^2 / (mIoU - {FOM_OFFSET}), smaller is better"))}
NOT_PUBLIC = {
    "Points": (Column("Total", "number start", "descending", "what is known so far"),
               Column("Task 1", "number", "descending", "task 1"), Column("Task 2", "number", "descending", "task 2"),
               Column("Rank", "number", "descending", "rank by FoM"),
               Column("Report", "number", "descending", "report, read by a person"),
               Column("Naming", "number", "descending", "wrong names, once")),
    " ": (Column("To look at", "start text", "descending"),)}


def class_page(entries: Sequence[StudentEntry], rows: Sequence[Override] = (), pairs: Sequence[AlikePair] = (),
               clusters: Sequence[Cluster] = (), pair_pages: Mapping[int, str] | None = None,
               public: bool = False) -> str:
    """The page as HTML. rows: overrides.csv's; pairs, clusters: who is alike; pair_pages: id(pair) -> its page."""
    asked = [row for row in rows if row.item != "report"]
    drawn = _points(entries)
    columns = COLUMNS if public else COLUMNS | NOT_PUBLIC
    return render(
        "class.html", script=True, public=public, entries=entries, **_origin(entries, public),
        by_slug={entry.record["slug"]: entry for entry in entries},
        column_groups=columns, columns=[(group.strip(), column) for group in columns for column in columns[group]],
        items=COURSE_NAMES, reached={task: sum(entry.reached(task) for entry in entries) for task in TASKS},
        ranked=[entry for entry in entries if entry.points.rank],
        waiting=[row for row in asked if not row.decision and (row.points or row.item == "owner")],
        decided=[row for row in asked if row.decision],
        unread=sum(entry.points.items.get(REPORT) is None for entry in entries),
        alike=len({slug for pair in pairs for slug in (pair.first, pair.second)}), clusters=clusters,
        groups=_groups(pairs), most_pairs=MOST_PAIRS, pair_pages=pair_pages or {}, id=id,
        plots=[scatter(drawn), scatter(drawn, 400, 440, "narrow")] if drawn else [])


def _origin(entries: Sequence[StudentEntry], public: bool) -> dict[str, list[str]]:
    """facts: when and how the records were made. mixed: in what they were not made alike."""
    records = [entry.record for entry in entries]
    days = sorted({str(record.get("graded") or "")[:10] for record in records} - {""})
    tasks = [task for record in records for task in record["tasks"].values() if number(task.get("miou")) is not None]
    devices, levels = ({str(task.get(key) or "") for task in tasks} - {""} for key in ("device", "level"))
    versions = {", ".join(f"{key} {value}" for key, value in (record.get("versions") or {}).items())
                for record in records}
    facts = [f"{days[0]} to {days[-1]}" if len(days) > 1 else "".join(days), ", ".join(sorted(devices))]
    if public:
        return {"facts": facts, "mixed": []}
    facts += [", ".join(sorted(levels)), "".join(versions) if len(versions) == 1 else ""]
    kinds = {"devices": devices, "levels of the sandbox": levels, "versions": versions}
    return {"facts": facts, "mixed": [what for what, found in kinds.items() if len(found) > 1]}


def _points(entries: Sequence[StudentEntry]) -> list[Point]:
    """The networks of task 2 whose costs are known."""
    found = []
    for entry in entries:
        task = entry.task(2)
        flops, size = number(task.get("flops")), number(task.get("size_kb"))
        if flops and size and flops > 0 and size > 0:
            found.append(Point(f"{entry.label} {entry.person}".strip(), entry.page, flops, size,
                               number(task.get("miou")), number(task.get("fom")), entry.points.rank))
    return found


def _groups(pairs: Sequence[AlikePair]) -> list[tuple[int, list[str], list[AlikePair]]]:
    """(task, the students, their pairs) of each group of students whose work is alike."""
    found = []
    for task in TASKS:
        of_task = [pair for pair in pairs if pair.task == task]
        found += [(task, group, [pair for pair in of_task if pair.first in group])
                  for group in groups((pair.first, pair.second) for pair in of_task)]
    return found
