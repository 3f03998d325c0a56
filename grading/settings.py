"""What a TA chooses for one run of `grade`, from the command line or from Python."""
import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grading.course import Course, read_course
from grading.part import SplitPart, read_part
from utils.lab import LabError

# What loads torch is imported where it is needed, so that `python -m grading --help` is quick.
if TYPE_CHECKING:
    from grading.class_run import Trial
    from grading.trial.sandbox import Level, Limits

LEAST_MEMORY = 3  # GB: torch alone maps two
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class GradeSettings:
    """The settings of `grade`. Raises LabError for those that make no sense.

    submissions: a folder or zip. data: where the images are. out: the folder REPORT. roster: a CSV file of the class.
    jobs: students at a time, by default one for each core or GPU. shard: (index from 0, number of shards). split: val,
    or test where only that has images. wall: seconds for a network, by default 600, or 2 for each image if that is
    more; memory: bytes for it. level: of the sandbox, by default the strongest that works here; `insecure` allows none.
    limits: all of them, in place of wall and memory. trial: in place of grading.trial.try_task. part: of the images.
    """

    submissions: Path
    data: Path | None = None
    out: Path = Path("runs/report")
    roster: Path | None = None
    jobs: int | None = None
    shard: tuple[int, int] = (0, 1)
    device: str = "auto"
    split: str | None = None
    wall: float | None = None
    memory: int | None = None
    insecure: bool = False
    course: Course | None = None
    level: "Level | None" = None
    limits: "Limits | None" = None
    trial: "Trial | None" = None
    part: SplitPart | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise LabError(f"expected --jobs of at least 1, found {self.jobs}: leave it out for one for each core")
        index, count = self.shard
        if not 0 <= index < count:
            raise LabError(f"expected --shard 1/N to N/N, found {index + 1}/{count}: count from 1")
        if self.device not in DEVICES:
            raise LabError(f"expected --device cpu, cuda or auto, found {self.device!r}")
        if self.wall is not None and not 0 < self.wall < 1e7:
            raise LabError(f"expected --wall in seconds, more than 0, found {self.wall:g}")
        if self.memory is not None and not LEAST_MEMORY << 30 <= self.memory < 1 << 50:
            raise LabError(f"expected --memory of at least {LEAST_MEMORY} GB, of which torch alone maps two, found "
                           f"{self.memory / (1 << 30):g}")
        report, submissions = self.out.resolve(), self.submissions.resolve()
        if report == submissions or submissions in report.parents:
            raise LabError(f"expected a report outside the submissions, found {self.out} in {self.submissions}: it "
                           "would be taken for one of them; choose another --out")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command `grade`."""
    parser.add_argument("submissions", type=Path, metavar="SUBMISSIONS",
                        help="a folder with a folder or zip for each student, or the one zip that a platform makes")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the data set to score on")
    parser.add_argument("--out", type=Path, metavar="REPORT", help="the report's folder")
    parser.add_argument("--dry-run", action="store_true",
                        help="only say whose submission was found where, and what was passed over")
    parser.add_argument("--roster", type=Path, metavar="CSV",
                        help="the class: Moodle's or Canvas's CSV, or one with the columns number and name")
    parser.add_argument("--jobs", type=int, metavar="N", help="students at a time (default: one for each core, or GPU)")
    parser.add_argument("--shard", default="1/1", metavar="I/N",
                        help="the I-th of N parts of the class, for N machines with one REPORT (1/4 to 4/4)")
    parser.add_argument("--device", choices=DEVICES, default="auto",
                        help="where the networks run (default: auto, the GPUs if there are any)")
    parser.add_argument("--split", metavar="SPLIT", help="the split to score on (default: val, or test)")
    parser.add_argument("--course", type=Path, metavar="FILE",
                        help="the course's own points, thresholds and deadline (default: grading/course.toml)")
    parser.add_argument("--insecure", action="store_true",
                        help="where no sandbox works: grade all the same, with your rights in every submission's hands")
    parser.add_argument("--wall", type=float, metavar="SECONDS",
                        help="time for each network (default: 600, or 2 for each image if that is more)")
    parser.add_argument("--rest-of", type=Path, metavar="BOARD",
                        help="score on the images that this board (`serve --public-split 30%%`) did not score on")
    parser.add_argument("--memory", type=float, metavar="GB", help="memory for each network (default: 4)")


def from_arguments(args: argparse.Namespace) -> GradeSettings:
    """The settings that a command line gives. Raises LabError."""
    shard = re.fullmatch(r"(\d{1,6})/(\d{1,6})", args.shard)
    if shard is None:
        raise LabError(f"expected --shard I/N, such as 1/4, found {args.shard!r}")
    if not args.dry_run and (args.data is None or args.out is None):
        raise LabError("expected --data FOLDER and --out REPORT, found one of them missing: only --dry-run does "
                       "without")
    if args.memory is not None and not 0 < args.memory < 1e6:
        raise LabError(f"expected --memory of at least {LEAST_MEMORY} GB, found {args.memory:g}")
    return GradeSettings(
        args.submissions, args.data, args.out or GradeSettings.out, args.roster, args.jobs,
        (int(shard[1]) - 1, int(shard[2])), args.device, args.split, args.wall,
        None if args.memory is None else int(args.memory * (1 << 30)), args.insecure, read_course(args.course),
        part=read_part(args.rest_of, rest=True) if args.rest_of else None)
