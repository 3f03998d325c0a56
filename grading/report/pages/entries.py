"""What the report's pages share about a student: record, points, and whose work is alike.

The public report has the same entries under pseudonyms, and without whatever could name a person.
"""
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grading.report.pages.page import dicts, number
from grading.report.points import Points
from grading.report.similarity.pairs import AlikePair, Cluster
from utils.lab import TASKS

MOODLE = re.compile(r"_\d+_assignsubmission_file_?$")  # behind a name, in Moodle's folder names


@dataclass
class StudentEntry:
    """A student in the report. `page` is the name of the student's page without its ending, safe as a file name."""

    page: str
    label: str
    record: dict
    points: Points
    thresholds: Mapping[int, float]
    public: bool = False
    pairs: list[AlikePair] = field(default_factory=list)
    clusters: list[Cluster] = field(default_factory=list)

    def task(self, task: int) -> dict:
        return self.record["tasks"][str(task)]

    @property
    def person(self) -> str:
        """The name beside the student's number, as far as the folder tells one."""
        found = "" if self.public else MOODLE.sub("", str(self.record.get("folder") or ""))
        return "" if found == self.label else found

    @property
    def flags(self) -> list[tuple[int, dict]]:
        """(task, {"code", "text"}) of both tasks."""
        return [(task, flag) for task in TASKS for flag in dicts(self.task(task).get("flags"))]

    @property
    def codes(self) -> list[str]:
        """The flags' codes, each once."""
        return list(dict.fromkeys(str(flag.get("code")) for _, flag in self.flags))

    @property
    def alike(self) -> list[str]:
        """The slugs of the students whose work is like this one's."""
        return sorted({pair.other(self.record["slug"]) for pair in self.pairs})

    def reached(self, task: int) -> bool:
        miou = number(self.task(task).get("miou"))
        return task not in self.points.withdrawn and miou is not None and miou >= self.thresholds[task]


def make_entries(records: Sequence[dict], points: Mapping[str, Points], thresholds: Mapping[int, float],
                 pairs: Sequence[AlikePair] = (), clusters: Sequence[Cluster] = (),
                 pseudonyms: Mapping[str, str] | None = None) -> list[StudentEntry]:
    """An entry a record: ranked ones first, by rank; then by task 2's mIoU, task 1's mIoU and name."""
    own: dict[str, list[AlikePair]] = {record["slug"]: [] for record in records}
    for pair in pairs:
        own[pair.first].append(pair)
        own[pair.second].append(pair)
    entries = []
    for record in records:
        slug = record["slug"]
        label = record["student"] if pseudonyms is None else pseudonyms[slug]
        page = slug if pseudonyms is None else label.replace(" ", "-")
        entries.append(StudentEntry(page, label, record, points[slug], thresholds, pseudonyms is not None, own[slug],
                                    [cluster for cluster in clusters if slug in cluster.students]))
    return sorted(entries, key=lambda entry: (
        entry.points.rank or len(records) + 1, -(number(entry.task(2).get("miou")) or 0),
        -(number(entry.task(1).get("miou")) or 0), entry.label))
