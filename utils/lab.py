"""The lab's contract: every constant that scripts, notebooks, grader and tests agree on, typed once.

It imports nothing of the lab and nothing heavy, so that anything may import it.
"""
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = Path(os.environ.get("LAB_RUNS") or ROOT / "runs").expanduser().absolute()  # a folder for each training run

# Images enter a network as float32 (N, 3, H, W) = (N, 3, 256, 512), normalized per channel (ImageNet's
# statistics, the field's habit; they are constants of the input, no weights come with them).
INPUT_SIZE = (256, 512)
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# The 8 categories are utils/labels_cat.py's; a target holds 0..7, or IGNORE where no class is known.
NUM_CLASSES = 8
VOID = 0
IGNORE = 255

# Where the data is looked for when no path is given; see dataset.reader.find_data.
DEFAULT_DATA = "./data"
SAMPLE_DATA = ROOT / "data" / "sample"
SPLITS = ("train", "val", "test")
CACHE_FOLDER = "lab-cache"  # beside the images, where that can be written; see dataset.cache

# FoM = FLOPs^2 x size_KB^2 / (mIoU - FOM_OFFSET), smaller is better, no rank below task 2's threshold (TASKS).
FOM_OFFSET = 0.65


@dataclass(frozen=True)
class Task:
    """One of the lab's two tasks: which files belong to it and which mIoU it must reach."""

    number: int
    title: str
    network_file: Path
    model_file: str
    notebook: str
    miou: float


TASKS = {
    1: Task(1, "U-Net", ROOT / "network" / "network.py", "model_task1.pth", "Lab05_segmentation_task1.ipynb",
            miou=0.72),
    2: Task(2, "Low-complexity network", ROOT / "network2" / "network.py", "model_task2.pth",
            "Lab05_segmentation_task2.ipynb", miou=0.66),
}

# What a student hands in; {id} is the student's number, e.g. 31355555.
HANDIN_FILES = (
    "Lab05_task1_{id}.ipynb", "Lab05_task2_{id}.ipynb", "network_task1.py", "network_task2.py",
    "model_task1.pth", "model_task2.pth", "report_{id}.pdf",
)
# The form of {id}, and the words for it. Where grading/course.toml has another, the kit has that one here.
STUDENT_NUMBER = "[0-9]{7,10}"
STUDENT_NUMBER_FORM = "7 to 10 digits"
# The oldest torch that a class is graded with (networks are exported with it); students may have an older one.
GRADER_TORCH = (2, 6)


class LabError(Exception):
    """Bad input, told in one line: what was expected, what was found, in which file, what to do.

    The scripts print it on stderr and end with status 2 (utils.terminal); a notebook shows it without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        # IPython's hook for exceptions that know how they want to be shown.
        return [f"{type(self).__name__}: {self}"]
