"""What is trained: rows of the table (a rung and settings of the notebook), each with several seeds."""
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dataset.dataset import SegmentationDataset
from dataset.reader import find_data, require_lab_classes
from training import jobs
from training.frontier.ladder import Cost, Ladder
from training.jobs import Job, make_job
from training.runs import check_settings
from utils.lab import ROOT, TASKS, LabError

NOTEBOOK = ROOT / TASKS[2].notebook
OWN = ("RUNG", "SEED", "RUN", "MODEL", "RESUME")  # settings that each run gets from here
BARRED = (*OWN, "NETWORK", "START")  # a network that is not the row's own has no place in the table
NEEDED = (*OWN, "EPOCHS", "DATA", "DEVICE")

# Each method of the recipe by itself, turned off, or on where it is off. What the recipe does already is left out.
LEVERS = {
    "no distillation": {"TEACHER": None},
    "distillation": {"TEACHER": TASKS[1].model_file},
    "strong distillation": {"TEACHER": TASKS[1].model_file, "DISTILL": 1.0},
    "no class weights": {"CLASS_WEIGHTS": None},
    "weights c=1.02": {"CLASS_WEIGHTS": 1.02},
    "weights c=1.10": {"CLASS_WEIGHTS": 1.10},
    "weights c=1.20": {"CLASS_WEIGHTS": 1.20},
    "cross-entropy alone": {"LOSS": {"cross-entropy": 1}},
    "Lovasz alone": {"LOSS": {"lovasz": 1}},
    "Dice for Lovasz": {"LOSS": {"cross-entropy": 0.5, "dice": 0.5}},
    "OHEM": {"LOSS": {"ohem": 0.5, "lovasz": 0.5}},
    "focal": {"LOSS": {"focal": 0.5, "lovasz": 0.5}},
    "label smoothing": {"LOSS": {"smoothed": 0.5, "lovasz": 0.5}},
    "no EMA": {"EMA": 0},
    "no weight decay": {"WEIGHT_DECAY": 0},
    "no warm-up": {"WARM_UP": 0},
    "crops to the end": {"UNCROPPED": 0},
    "no calibration": {"CALIBRATE": 0},
    "calibration on held-out pictures": {"CALIBRATE": 0.05},
    "every pixel": {"LOSS_STRIDE": 1},
    "branches": {"BRANCHES": 2},
    "plain recipe": {"TEACHER": None, "CLASS_WEIGHTS": None, "LOSS": {"cross-entropy": 1}, "EMA": 0,
                     "WEIGHT_DECAY": 0, "WARM_UP": 0, "UNCROPPED": 0, "CALIBRATE": 0, "BRANCHES": 0},
}


@dataclass(frozen=True)
class Row:
    """One row of the table: a rung, and, if it is a lever's, what the lever changes and whose lever it is."""

    name: str
    rung: Sequence
    cost: Cost
    lever: str | None = None
    base: str | None = None   # the row with the recipe's settings
    changes: dict = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return re.sub(r"[^\w.,=-]+", "-", self.name)


def rung_rows(ladder: Ladder, texts: Sequence[str] = ()) -> list[Row]:
    """A row for each rung in `texts`, all of the ladder's without; each once."""
    chosen = dict(ladder.read(text) for text in texts) or ladder.named
    return [Row(name, rung, ladder.cost(rung)) for name, rung in chosen.items()]


def block_rows(ladder: Ladder, text: str) -> list[Row]:
    """The rung with each block that the network file has. Raises LabError if that has no BLOCKS."""
    if not getattr(ladder.module, "BLOCKS", None):
        raise LabError(f"expected a table of blocks, BLOCKS, in {ladder.file}, found none: keep the hand-out's")
    return rung_rows(ladder, [f"{text},block={block}" for block in ladder.module.BLOCKS])


def lever_rows(ladder: Ladder, text: str, recipe: dict, names: Sequence[str] = ()) -> tuple[list[Row], list[str]]:
    """The rung with the recipe's settings, then a row a lever (all, or those in `names`); and a line on each left out.

    recipe: all settings of the notebook as they are. Raises LabError for a lever that is not in LEVERS.
    """
    (base,) = rung_rows(ladder, [text])
    rows, notes = [base], []
    for name in names or LEVERS:
        if name not in LEVERS:
            raise LabError(f"expected a lever of {', '.join(LEVERS)}, found {name!r}: check --lever")
        changes = LEVERS[name]
        lacking = [setting for setting in changes if setting not in recipe]
        if lacking:
            notes.append(f"left out: {name}, as {NOTEBOOK.name} has no setting {lacking[0]}")
        elif all(recipe[setting] == value for setting, value in changes.items()):
            notes.append(f"left out: {name}, as the recipe is so already")
        else:
            rows.append(Row(f"{base.name} {name}", base.rung, base.cost, name, base.name, changes))
    return rows, notes


def make_jobs(rows: Sequence[Row], seeds: int, given: dict, folder: Path) -> list[Job]:
    """The runs of all rows with the seeds 1 to `seeds`, seed by seed, so that every row has one soon.

    given: settings that differ from the notebook's. Raises LabError for an unknown setting and for missing data.
    """
    recipe = all_settings(given)
    check_settings(recipe)
    root = find_data(recipe["DATA"]).resolve()
    require_lab_classes(root)
    fingerprint = SegmentationDataset(root, "train", cache=False).fingerprint
    made = []
    for seed in range(1, seeds + 1):
        for row in rows:
            place = folder.resolve() / row.folder / f"seed-{seed}"
            asked = {"data": fingerprint, "macs": row.cost.macs, "parameters": row.cost.parameters}
            about = {"row": row.name, "lever": row.lever, "base": row.base, "changes": row.changes,
                     "rung": row.rung, "seed": seed}
            own = {**given, **row.changes, "RUNG": row.rung, "SEED": seed, "DATA": str(root)}
            made.append(make_job(f"{row.name} seed {seed}", TASKS[2], place, own, recipe, asked, about))
    return made


def all_settings(given: dict) -> dict:
    """The notebook's settings with those `given` in their place. Raises LabError for one that it does not have."""
    return jobs.all_settings(NOTEBOOK, given, NEEDED, BARRED)
