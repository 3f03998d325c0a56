"""What the report's pages share about a student: record, points, and who else's work is alike.

The public report has the same entries under pseudonyms, and without whatever could name a person.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grading.pages.page import chip, figure, link, name, number, person
from grading.points import Points
from grading.similarity.pairs import Pair
from utils.lab import TASKS


@dataclass
class Entry:
    """A student in the report. `page` is the name of the student's page without its ending, safe as a file name."""

    page: str
    label: str
    record: dict
    points: Points
    thresholds: Mapping[int, float]
    public: bool = False
    pairs: list[Pair] = field(default_factory=list)

    def task(self, number: int) -> dict:
        return self.record["tasks"][str(number)]

    @property
    def person(self) -> str:
        """The name beside the student's number, as far as the folder tells one; plain text."""
        found = "" if self.public else person(str(self.record.get("folder") or ""))
        return "" if found == self.label else found

    @property
    def flags(self) -> list[tuple[int, dict]]:
        """(task, {"code", "text"}) of both tasks."""
        return [(number, flag) for number in TASKS for flag in _rows(self.task(number).get("flags"))]

    def reached(self, task: int) -> bool:
        miou = number(self.task(task).get("miou"))
        return miou is not None and miou >= self.thresholds[task]

    def link(self, folder: str = "students") -> str:
        """The student as a link to the page, HTML."""
        return f'<a href="{link(*filter(None, folder.split("/")), self.page + ".html")}">{name(self.label, 80)}</a>'

    def state(self, task: int) -> str:
        """The task's state as HTML; the public report says only that something is open."""
        state = self.task(task)["state"]
        if self.public and state != "OK":
            words = "to be confirmed" if state == "FLAGGED" else "not scored"
            return f'<span class="chip none">{words}</span>'
        return chip(state)

    def miou(self, task: int) -> str:
        """The mIoU with a mark, and the state where it is not simply OK; HTML."""
        found = figure(self.task(task).get("miou"), "{:.4f}")
        if found:
            reached = self.reached(task)
            word = f"{'reaches' if reached else 'below'} {self.thresholds[task]:g}"
            found += f' <span class="{"yes" if reached else "no"}" title="{word}">{"✓" if reached else "✗"}</span>'
        return found if self.task(task)["state"] == "OK" else f"{found}{'<br>' if found else ''}{self.state(task)}"


def make_entries(records: Sequence[dict], points: Mapping[str, Points], thresholds: Mapping[int, float],
                 pairs: Sequence[Pair] = (), pseudonyms: Mapping[str, str] | None = None) -> list[Entry]:
    """An entry a record, ranked ones first, by rank; then by task 2's mIoU, task 1's mIoU and name."""
    own: dict[str, list[Pair]] = {record["slug"]: [] for record in records}
    for pair in pairs:
        own[pair.first].append(pair)
        own[pair.second].append(pair)
    entries = []
    for record in records:
        slug = record["slug"]
        label = record["student"] if pseudonyms is None else pseudonyms[slug]
        page = slug if pseudonyms is None else label.replace(" ", "-")
        entries.append(Entry(page, label, record, points[slug], thresholds, pseudonyms is not None,
                             own[slug]))
    return sorted(entries, key=lambda entry: (
        entry.points.rank or len(records) + 1, -(number(entry.task(2).get("miou")) or 0),
        -(number(entry.task(1).get("miou")) or 0), entry.label))


def _rows(value: object) -> list[dict]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
