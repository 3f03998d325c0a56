"""What the students of one run of `grade` share: settings, images, sandbox; and whether an older record stands."""
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dataset.dataset import SegmentationDataset
from dataset.reader import find_data
from grading.console import say
from grading.course import Course, read_course
from grading.intake.students import Student
from grading.records import (
    SCHEMA,
    arrays_digest,
    clean,
    digest,
    read_record,
    record_path,
    shown,
    versions,
    write_record,
)
from grading.settings import GradeSettings
from grading.trial.sandbox import Level, Limits, find_level
from grading.trial.scoring import SLOWER, try_task
from utils.lab import TASKS, LabError
from utils.machine import available_cores

if TYPE_CHECKING:
    from grading.trial.scoring import Proof, StagedImages

Trial = Callable[..., "tuple[dict, np.ndarray | None, Proof | None]"]  # try_task, or one like it
FOR_AN_IMAGE = 2.0  # seconds of wall time for each image, where no limit is given
OTHER_WORK = 900.0  # seconds that anything but its networks may take of a student, before the grader gives up


@dataclass
class ClassRun:
    """What all students of a run share.

    images uint8 (N, 256, 512, 3), targets uint8 (N, 256, 512) and the images' names, in the split's order; data: the
    digest of these three; folder: where they are; staged: the images as the sandboxed children see them; device: cpu,
    or the GPU's name; threads: of a child; scratch: a folder for copies, which ends with the run.
    """

    out: Path
    scratch: Path
    course: Course
    images: np.ndarray
    targets: np.ndarray
    names: Sequence[str]
    data: str
    split: str
    device: str
    threads: int
    level: Level
    limits: Limits
    trial: Trial
    folder: str = ""
    staged: "StagedImages | Any" = None

    @property
    def level_name(self) -> str:
        return getattr(self.level, "value", str(self.level))

    @property
    def patience(self) -> float:
        """Seconds after which a student is given up: a task is exported, replayed, and perhaps run by its own code."""
        return len(TASKS) * (2 + SLOWER) * self.limits.wall + OTHER_WORK

    @property
    def limited(self) -> dict[str, float]:
        """The limits by name, without that on CPU time, which follows from the others and the machine's cores."""
        return {name: value for name, value in asdict(self.limits).items() if name != "cpu"}

    def key(self, student: Student) -> str:
        """The digest of all that the record is made from: files, names, data, limits, grader and level."""
        changing = self.changing(student)
        facts = {name: value for name, value in student.facts().items() if name not in changing}
        return digest([SCHEMA, facts, self.data, self.split, self.limited, self.level_name, self.device, versions()])

    def changing(self, student: Student) -> dict:
        """The record's entries that may change without the student being graded again."""
        facts = student.facts()
        names = ("folder", "submitted", "time_assumed", "late_mark", "contested")
        late = self.course.days_late(facts["submitted"]) if self.course.deadline else None
        return clean({**{name: facts[name] for name in names}, "late": late})

    def stands(self, student: Student) -> bool:
        """Whether the record of an earlier run stands; what may change in it is brought up to date."""
        path = record_path(self.out, student.slug)
        if not path.exists():
            return False
        try:
            record = read_record(path)
        except LabError as error:
            say(f"note: {error}")
            return False
        if record.get("key") != self.key(student):
            return False
        changing = self.changing(student)
        if any(record.get(name) != value for name, value in changing.items()):
            write_record(self.out, student.slug, record | changing)
        return True


def prepare(settings: GradeSettings, scratch: Path, gpus: list[int], workers: int) -> ClassRun:
    """Reads the images and chooses the sandbox. Raises LabError for data without the lab's classes, or no sandbox."""
    folder = find_data(settings.data)
    folder.require_lab_classes()
    split = settings.split or folder.scored_split
    dataset = SegmentationDataset(folder, split)
    images, targets = dataset.arrays
    names = [pair.name for pair in dataset.pairs]
    if settings.part is not None:
        places = settings.part.choose(names)
        images, targets, names = images[places], targets[places], [names[place] for place in places]
    threads = max(1, available_cores() // workers)
    device = "cpu"
    if gpus:
        import torch

        device = torch.cuda.get_device_name(gpus[0])
    return ClassRun(
        settings.out, scratch, settings.course or read_course(), images, targets, names,
        digest([names, arrays_digest([images, targets])]), split, device, threads,
        settings.level or find_level(settings.insecure), settings.limits or _limits(settings, len(names), threads),
        settings.trial or try_task, shown(folder.root.absolute()))


def _limits(settings: GradeSettings, images: int, threads: int) -> Limits:
    wall = settings.wall or max(Limits.wall, FOR_AN_IMAGE * images)
    return Limits(wall=wall, memory=settings.memory or Limits.memory, cpu=max(Limits.cpu, 2 * wall * threads))
