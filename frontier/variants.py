"""What is trained: variants (a rung with settings of the notebook), each with several seeds."""
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dataset.dataset import SegmentationDataset
from dataset.reader import find_data
from frontier import jobs
from frontier.ladder import BLOCKS_FILE, Ladder, RungCost
from training.settings import check_settings
from utils.lab import ROOT, TASKS, LabError

NOTEBOOK = ROOT / TASKS[2].notebook
OWN = ("RUNG", "SEED", "RUN", "MODEL", "RESUME")  # settings that each run gets from here
BARRED = (*OWN, "NETWORK", "START")  # these would train another network than the table says
NEEDED = (*OWN, "NETWORK", "EPOCHS", "DATA", "DEVICE")

# Each method of the recipe turned off, or on where it is off. A method that the recipe already has is left out.
ABLATIONS = {
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
    "calibration on held-out images": {"CALIBRATE": 0.05},
    "every pixel": {"LOSS_STRIDE": 1},
    "branches": {"BRANCHES": 2},
    "plain recipe": {"TEACHER": None, "CLASS_WEIGHTS": None, "LOSS": {"cross-entropy": 1}, "EMA": 0,
                     "WEIGHT_DECAY": 0, "WARM_UP": 0, "UNCROPPED": 0, "CALIBRATE": 0, "BRANCHES": 0},
}


@dataclass(frozen=True)
class Variant:
    """A row of the table: a rung, and for an ablation the settings that it changes and the row it is compared with."""

    name: str
    rung: Sequence
    cost: RungCost
    own: bool = True  # whether the network file itself builds it, and not frontier/blocks.py
    ablation: str | None = None
    base: str | None = None
    changes: dict = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return re.sub(r"[^\w.,=-]+", "-", self.name)


def rung_variants(ladder: Ladder, texts: Sequence[str] = ()) -> list[Variant]:
    """A variant for each rung in `texts`, or for all of the ladder's; each once."""
    chosen = dict(ladder.read(text) for text in texts) or ladder.named
    return [Variant(name, rung, ladder.cost(rung), ladder.builds(rung)) for name, rung in chosen.items()]


def block_variants(ladder: Ladder, text: str) -> list[Variant]:
    """The rung with each kind of block."""
    return rung_variants(ladder, [f"{text},block={block}" for block in ladder.blocks])


def ablation_variants(ladder: Ladder, text: str, recipe: dict, names: Sequence[str] = ()
                      ) -> tuple[list[Variant], list[str]]:
    """The rung with the recipe's settings, then a variant for each ablation; and a line for each that is left out.

    recipe: all settings of the notebook. names: of ABLATIONS, all without; raises LabError for another name.
    """
    (base,) = rung_variants(ladder, [text])
    variants, notes = [base], []
    for name in names or ABLATIONS:
        if name not in ABLATIONS:
            raise LabError(f"expected an ablation of {', '.join(ABLATIONS)}, found {name!r}: check --ablation")
        changes = ABLATIONS[name]
        lacking = [setting for setting in changes if setting not in recipe]
        if lacking:
            notes.append(f"left out: {name}, as {NOTEBOOK.name} has no setting {lacking[0]}")
        elif all(recipe[setting] == value for setting, value in changes.items()):
            notes.append(f"left out: {name}, as the recipe has these settings already")
        else:
            variants.append(Variant(f"{base.name} {name}", base.rung, base.cost, base.own, name, base.name, changes))
    return variants, notes


def make_jobs(variants: Sequence[Variant], seeds: int, given: dict, folder: Path) -> list[jobs.Job]:
    """The runs of all variants with the seeds 1 to `seeds`; first all with seed 1, so that each has a result early.

    given: settings that differ from the notebook's. Raises LabError for an unknown setting and for missing data.
    """
    recipe = all_settings(given)
    check_settings(recipe)
    data = find_data(recipe["DATA"])
    data.require_lab_classes()
    fingerprint = SegmentationDataset(data, "train", cache=False).fingerprint
    made = []
    for seed in range(1, seeds + 1):
        for variant in variants:
            own = {**given, **variant.changes, "RUNG": variant.rung, "NETWORK": None, "SEED": seed,
                   "DATA": str(data.root.resolve())}
            if not variant.own:  # RUNG and BRANCHES are for the network file's own networks
                rung, branches = tuple(variant.rung), own.get("BRANCHES", recipe["BRANCHES"])
                own |= {"NETWORK": f"frontier.blocks:{rung[-1]}(rung={rung}, branches={branches})",
                        "RUNG": recipe["RUNG"], "BRANCHES": 0}
            asked = {"data": fingerprint, "macs": variant.cost.macs, "parameters": variant.cost.parameters}
            about = {"row": variant.name, "ablation": variant.ablation, "base": variant.base,
                     "changes": variant.changes, "rung": variant.rung, "seed": seed}
            made.append(jobs.make_job(
                f"{variant.name} seed {seed}", TASKS[2], folder.resolve() / variant.folder / f"seed-{seed}", own,
                recipe, asked, about, TASKS[2].network_file if variant.own else BLOCKS_FILE))
    return made


def all_settings(given: dict) -> dict:
    """The notebook's settings, changed by those `given`. Raises LabError for one that it does not have."""
    return jobs.all_settings(NOTEBOOK, given, NEEDED, BARRED)
