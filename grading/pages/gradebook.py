"""Grades for other programs: grades.csv for a spreadsheet, a results.json a student in Gradescope's format."""
import csv
import io
from collections.abc import Mapping, Sequence

from grading.pages.entries import Entry
from grading.pages.page import number
from grading.points import NAMING, RANK, REPORT, TASK1, TASK2
from utils.lab import TASKS

ITEMS = {TASK1: "points task 1", TASK2: "points task 2", RANK: "points rank", REPORT: "points report",
         NAMING: "points naming"}
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what a spreadsheet takes for a formula


def grades_csv(entries: Sequence[Entry], pseudonyms: Mapping[str, str] | None = None) -> bytes:
    """The table of grades, a row a student: UTF-8 with BOM and CRLF, which Excel opens without asking.

    Cells that a spreadsheet would take for a formula get a ' in front; figures are written in full.
    """
    others = list(dict.fromkeys(item for entry in entries for item in entry.points.items if item not in ITEMS))
    head = ["student", "name", "slug", "pseudonym"]
    for task in TASKS:
        head += [f"state task {task}", f"mIoU task {task}"]
    head += ["FLOPs", "size KB", "FoM", "rank", *ITEMS.values(), *(_cell(f"points {item}") for item in others), "total",
             "open", "flags", "alike", "missing", "graded"]
    rows: list[list[object]] = []
    for entry in entries:
        record, two = entry.record, entry.task(2)
        row: list[object] = [_cell(entry.label), _cell(entry.person), record["slug"],
                             (pseudonyms or {}).get(record["slug"], "")]
        for task in TASKS:
            row += [entry.task(task)["state"], number(entry.task(task).get("miou"))]
        row += [number(two.get("flops")), number(two.get("size_kb")), number(two.get("fom")), entry.points.rank]
        row += [entry.points.items.get(item) for item in (*ITEMS, *others)]
        alike = {pair.other(record["slug"]) for pair in entry.pairs}
        row += [entry.points.total, _cell("; ".join(entry.points.pending)),
                _cell("; ".join(f"task {task} {flag.get('code')}" for task, flag in entry.flags)),
                _cell("; ".join(sorted(alike))), _cell("; ".join(map(str, record.get("missing") or ()))),
                _cell(str(record.get("graded") or ""))]
        rows.append([_whole(value) for value in row])
    text = io.StringIO(newline="")
    csv.writer(text).writerows([head, *rows])
    return text.getvalue().encode("utf-8-sig", "replace")


def gradescope(entry: Entry, most: Mapping[str, float], pseudonym: str = "") -> dict:
    """A student's results in the format of Gradescope's autograder (results.json).

    most: the points of each item. The student sees states, figures and points; flags are in a test that is hidden from
    students, and what other people handed in is not in it at all.
    """
    tests = [_task(entry, task, item, most[item]) for task, item in zip(TASKS, (TASK1, TASK2), strict=True)]
    rank, points = entry.points.rank, entry.points.items
    words = f"rank {rank} of {entry.points.ranked} by figure of merit" if rank else "no rank"
    tests.append(_test("Task 2: rank by FoM", points.get(RANK), most[RANK], words))
    tests.append(_test("Report", points.get(REPORT), most[REPORT],
                       "none handed in" if "report" in (entry.record.get("missing") or ()) else "read by a person"))
    tests.append(_test("File names", points.get(NAMING), 0, "\n".join(map(str, entry.record.get("naming") or ())) or
                       "as asked for"))
    tests += [_test(str(item), value, 0, "") for item, value in points.items() if item not in ITEMS]
    if entry.flags:
        listed = "\n".join(f"task {task}: {flag.get('code')}: {flag.get('text')}" for task, flag in entry.flags)
        tests.append(_test("For the graders: flags", None, 0, listed) | {"visibility": "hidden"})
    two = entry.task(2)
    board = [("mIoU task 1", entry.task(1).get("miou"), "desc"), ("mIoU task 2", two.get("miou"), "desc"),
             ("FoM", two.get("fom") if rank else None, "asc")]
    output = "Some points are still open: a person reads the report and decides what is flagged." \
        if entry.points.pending else ""
    if pseudonym:
        output = f"{output}\nYour name on the public page: {pseudonym}".strip()
    return {"score": max(0.0, entry.points.total), "visibility": "visible", "stdout_visibility": "hidden",
            "output": output, "output_format": "text", "test_output_format": "text", "test_name_format": "text",
            "tests": tests,
            "leaderboard": [{"name": title, "value": value, "order": order} for title, value, order in board
                            if number(value) is not None]}


def _task(entry: Entry, task: int, item: str, most: float) -> dict:
    found = entry.task(task)
    lines = [f"state: {found['state']}", str(found.get("why") or "")]
    figures = (("mIoU", "miou", "{:.6f}"), ("FLOPs", "flops", "{:,.0f}"), ("size in KB", "size_kb", "{:,.3f}"),
               ("FoM", "fom", "{:.6e}"))
    lines += [f"{title}: {form.format(value)}" for title, key, form in figures
              if (value := number(found.get(key))) is not None and (task == 2 or key != "fom")]
    lines.append(f"asked for: mIoU {entry.thresholds[task]:g}")
    return _test(f"Task {task}: mIoU", entry.points.items.get(item), most, "\n".join(filter(None, lines)))


def _test(name: str, score: float | None, most: float, output: str) -> dict:
    """One test; without a score, and so without a verdict, while a person has still to give it."""
    found: dict[str, object] = {"name": name, "output": output, "visibility": "visible"}
    if score is not None:
        found |= {"score": score, "max_score": most}
        found |= {"status": "passed" if score >= most else "failed"} if most > 0 or score < 0 else {}
    return found


def _cell(text: str) -> str:
    return "'" + text if text.startswith(FORMULA) else text


def _whole(value: object) -> object:
    """None as an empty cell, 25.0 as 25."""
    if value is None:
        return ""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value
