"""What became of a student's grade over time: regradings with the old figure beside the new one, and decisions.

    REPORT/history/<slug>.json   a list, the oldest first; an entry has the date, why it differs from the one before,
                                 what changed, and the state from then on

`grade` and `report` add an entry for a student whose figures, points, decisions, or what they rest on have changed.
Ranks are left out: they change with everybody else's.
"""
import datetime
import json
from collections.abc import Mapping
from pathlib import Path

from grading.records import digest
from grading.report.points import RANK
from utils.files import write_json
from utils.lab import TASKS, LabError

FIGURES = {"state": "state", "miou": "mIoU", "flops": "FLOPs", "size_kb": "size KB", "fom": "FoM"}
# What a grade rests on -> what is said where it has changed.
REASONS = {"files": "other files", "submitted": "another time of handing in", "data": "other data",
           "grader": "another version of the grader", "versions": "other versions of Python or its packages",
           "machine": "another device, sandbox or limits", "course": "other numbers of the course",
           "decisions": "a decision"}


def history_path(out: Path, slug: str) -> Path:
    return Path(out) / "history" / f"{slug}.json"


def read_history(out: Path, slug: str) -> list[dict]:
    """A student's entries, the oldest first. Raises LabError for a damaged file, which is never replaced."""
    path = history_path(out, slug)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if all({"date", "because", "changes", "basis", "figures"} <= set(entry) for entry in found):
            return found
        reason = "other entries"
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "damaged JSON"
    raise LabError(f"expected a student's history, found {reason} in {path}: restore it, or move it away and a new one "
                   "begins")


def keep_history(out: Path, contents: Mapping[str, dict]) -> dict[str, list[dict]]:
    """Adds what has changed to everybody's history, which it returns by slug. contents: of the receipts, by slug."""
    found = {}
    for slug, content in contents.items():
        entries, now = read_history(out, slug), _state(content)
        before = entries[-1] if entries else None
        if before is None or any(before[key] != now[key] for key in now):
            entry = {"date": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
                     "because": ["graded"], "changes": [], **now}
            if before is not None:
                entry["because"] = [said for key, said in REASONS.items()
                                    if before["basis"].get(key) != now["basis"][key]] or ["graded again"]
                old, new = before["figures"], now["figures"]
                entry["changes"] = [[key, old.get(key), new.get(key)] for key in {**old, **new}
                                    if old.get(key) != new.get(key)]
            entries = [*entries, entry]
            write_json(history_path(out, slug), entries)
        found[slug] = entries
    return found


def _state(content: dict) -> dict:
    """basis: digests of what a grade rests on, by REASONS' names. figures: what came out, and what was decided."""
    files = content["files"] if isinstance(content["files"], dict) else {}
    basis = {"files": [file.get("sha256") if isinstance(file, dict) else None for _, file in sorted(files.items())],
             "versions": {name: version for name, version in (content["versions"] or {}).items() if name != "lab"},
             "course": content["course"]["sha256"],
             **{name: content[name] for name in ("data", "grader", "machine", "submitted", "decisions")}}
    figures = {f"task {number} {title}": content["tasks"][str(number)][name]
               for number in TASKS for name, title in FIGURES.items()}
    figures |= {f"points {item}": entry["points"] for item, entry in content["points"].items() if item != RANK}
    figures |= {f"decision on {item}": decision for item, decision in content["decisions"].items()}
    return {"basis": {name: digest(value) for name, value in basis.items()}, "figures": figures}
