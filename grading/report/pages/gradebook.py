"""Grades for other programs: grades.csv for a spreadsheet, a results.json a student in Gradescope's format."""
import csv
import io
from collections.abc import Mapping, Sequence

from grading.report.overrides import guarded
from grading.report.pages.entries import StudentEntry
from grading.report.pages.page import number
from grading.report.points import NAMING, RANK, REPORT, TASK1, TASK2
from utils.lab import TASKS

COLUMNS = {TASK1: "points task 1", TASK2: "points task 2", RANK: "points rank", REPORT: "points report",
           NAMING: "points naming"}
OPEN = "Some points are still open: a person reads the report and decides what is flagged."


def grades_csv(entries: Sequence[StudentEntry], pseudonyms: Mapping[str, str] | None = None) -> bytes:
    """The table of grades, a row a student: UTF-8 with BOM and CRLF, which Excel opens without asking.

    Cells that a spreadsheet would take for a formula get a ' in front; figures are written in full.
    """
    others = list(dict.fromkeys(item for entry in entries for item in entry.points.items if item not in COLUMNS))
    rows: list[dict[str, object]] = []
    for entry in entries:
        record, two, items = entry.record, entry.task(2), entry.points.items
        row: dict[str, object] = {"student": entry.label, "name": entry.person, "slug": record["slug"],
                                  "pseudonym": (pseudonyms or {}).get(record["slug"], "")}
        for task in TASKS:
            row |= {f"state task {task}": entry.task(task)["state"],
                    f"mIoU task {task}": number(entry.task(task).get("miou"))}
        row |= {"FLOPs": number(two.get("flops")), "size KB": number(two.get("size_kb")),
                "FoM": number(two.get("fom")), "rank": entry.points.rank}
        row |= {title: items.get(item) for item, title in COLUMNS.items()}
        row |= {f"points {item}": items.get(item) for item in others}
        flags = [f"task {task} {flag.get('code')}" for task, flag in entry.flags]
        row |= {"total": entry.points.total, "open": "; ".join(entry.points.pending), "flags": "; ".join(flags),
                "withdrawn": "; ".join(f"task {task}: {why}" for task, why in entry.points.withdrawn.items()),
                "alike": "; ".join(entry.alike), "missing": "; ".join(map(str, record.get("missing") or ())),
                "graded": str(record.get("graded") or "")}
        rows.append(row)
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[guarded(title) for title in rows[0]], *(map(_cell, row.values()) for row in rows)])
    return text.getvalue().encode("utf-8-sig", "replace")


def gradescope(entry: StudentEntry, most: Mapping[str, float], pseudonym: str = "") -> dict:
    """A student's results in the format of Gradescope's autograder (results.json).

    most: the points of each item. The student sees states, figures and points; flags are in a test that is hidden from
    students, and what other people handed in is not in it at all.
    """
    record, rank, items = entry.record, entry.points.rank, entry.points.items
    tests = [_task(entry, task, item, most[item]) for task, item in zip(TASKS, (TASK1, TASK2), strict=True)]
    tests += [
        _test("Task 2: rank by FoM", items.get(RANK), most[RANK],
              f"rank {rank} of {entry.points.ranked} by figure of merit" if rank else "no rank"),
        _test("Report", items.get(REPORT), most[REPORT],
              "none handed in" if "report" in (record.get("missing") or ()) else "read by a person"),
        _test("File names", items.get(NAMING), 0, "\n".join(map(str, record.get("naming") or ())) or "as asked for")]
    tests += [_test(str(item), value, 0, "") for item, value in items.items() if item not in COLUMNS]
    if entry.flags:
        listed = "\n".join(f"task {task}: {flag.get('code')}: {flag.get('text')}" for task, flag in entry.flags)
        tests.append(_test("For the graders: flags", None, 0, listed) | {"visibility": "hidden"})
    board = [(f"mIoU task {task}", entry.task(task).get("miou"), "desc") for task in TASKS
             if task not in entry.points.withdrawn]
    board += [("FoM", entry.task(2).get("fom") if rank else None, "asc")]
    output = [OPEN if entry.points.pending else "", f"Your name on the public page: {pseudonym}" if pseudonym else ""]
    return {"score": max(0.0, entry.points.total), "visibility": "visible", "stdout_visibility": "hidden",
            "output": "\n".join(filter(None, output)), "output_format": "text", "test_output_format": "text",
            "test_name_format": "text", "tests": tests,
            "leaderboard": [{"name": title, "value": value, "order": order} for title, value, order in board
                            if number(value) is not None]}


def _task(entry: StudentEntry, task: int, item: str, most: float) -> dict:
    found = entry.task(task)
    lines = [f"state: {found['state']}", str(found.get("why") or "")]
    if task in entry.points.withdrawn:
        lines.append(f"withdrawn: {entry.points.withdrawn[task]}")
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


def _cell(value: object) -> object:
    """None as an empty cell, 25.0 as 25, and no text that a spreadsheet takes for a formula."""
    if isinstance(value, str):
        return guarded(value)
    if value is None:
        return ""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value
