"""A run has a folder: its settings, what it measured each epoch, and a checkpoint to resume from.

    runs/<name>/settings.json     settings, data set, processes, parameters, machine, versions, when started and resumed
    runs/<name>/history.json      one record an epoch, a line each: its figures, seconds and confusion matrix
    runs/<name>/checkpoint.pth    all it takes to go on: network, EMA, optimizer, scheduler, scaler, epoch, best mIoU,
                                  history, random states
    runs/<name>/thumbnails.png    a few pictures, their labels and predictions
Every file is written beside its place and renamed into it: an interruption leaves the previous one whole.

    python -m training.runs              lists all runs, best first
    python -m training.runs NAME NAME    compares runs
"""
import copy
import io
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from training.contents import first_difference, plain
from training.distributed import is_main, shard
from training.surroundings import describe_machine, describe_versions, random_states, set_random_state
from utils.classes import LAB_CLASSES, Classes
from utils.files import move_aside, replacing, write_json
from utils.lab import RUNS, LabError, Task
from utils.metric import ConfusionMatrix, Pixels
from utils.terminal import run_main

# What may differ when a run goes on: where things lie, and what it is computed on. The data set has its fingerprint.
FREE_SETTINGS = ("DATA", "RESUME", "DEVICE", "MODEL", "COMPILE")
# What a notebook's setting may be, if it has one of that name; each of HIGHEST is a number from 0 on.
HIGHEST = {"CALIBRATE": 1, "UNCROPPED": 1, "WARM_UP": 1, "EMA": float("inf"), "DISTILL": float("inf"),
           "WEIGHT_DECAY": float("inf"), "BACKBONE_RATE": float("inf")}
CHOICES = {"LOSS_STRIDE": (1, 2, 4), "STORE": ("float32", "float16", "int8")}


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Saves the state_dict alone, on the CPU, as `load_model` expects it; `path` is replaced in one step.

    Of several processes the main one writes, the others do nothing.
    """
    if is_main():
        _save(path, {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})


def weights_file(task: Task, run: str) -> str:
    """Where a run's best weights go: to the file that is handed in for task1 or task2, beside it for other names."""
    name = Path(str(run)).name  # of -p RUN 5 a number arrives
    return task.model_file if name == f"task{task.number}" else f"{Path(task.model_file).stem}-{name}.pth"


def check_settings(settings: dict) -> None:
    """Raises LabError, naming the setting, for values that cannot train; called before anything long starts."""
    for name, low in {"EPOCHS": 1, "BATCH_SIZE": 1, "WIDTH": 1, "SEED": 0, "BRANCHES": 0}.items():
        value = settings.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < low):
            raise LabError(f"expected {name} to be a whole number of at least {low}, found {value!r} in the settings")
    rate = settings.get("LEARNING_RATE")
    if rate is not None and not (isinstance(rate, (int, float)) and 0 < rate < 1):
        raise LabError(f"expected LEARNING_RATE between 0 and 1, found {rate!r} in the settings")
    for name, high in HIGHEST.items():
        if name in settings and not (isinstance(settings[name], (int, float)) and 0 <= settings[name] <= high):
            raise LabError(f"expected {name} to be a number from 0 {f'to {high}' if high == 1 else 'on'}, found "
                           f"{settings[name]!r} in the settings")
    for name, known in CHOICES.items():
        if name in settings and settings[name] not in known:
            raise LabError(f"expected {name} to be one of {', '.join(map(str, known))}, found {settings[name]!r} in "
                           "the settings")
    if not isinstance(settings.get("COMPILE", False), bool):
        raise LabError(f"expected COMPILE to be True or False, found {settings['COMPILE']!r} in the settings")


class Run:
    """One training run: `name` is its folder under `folder`, `state` the objects with a state_dict to save and resume.

    state: "network", the plain one (not the compiled or parallel one made of it), and whatever else changes while it
    trains: "optimizer", "scheduler", "scaler", "ema" (an AveragedModel). data: the fingerprint of the data set.
    classes: its classes; settings.json names them, as `class_names`, where they are not the lab's.
    `epoch` says how many epochs are done, `best` is the best mIoU so far, `history` holds one record an epoch.

    With `resume` the checkpoint in the folder, if there is one, is loaded into `state`, and the random states of
    torch, CUDA, numpy and Python are set, so construct the Run right before the first epoch. A checkpoint of other
    settings (FREE_SETTINGS apart), another data set, number of processes or network, or with other parts, is refused
    with a LabError; `state` is then as it was.

    Without `resume` the run starts anew. An older run in the folder stays untouched until the first epoch is
    finished; then its whole folder becomes `<name>.previous`, in place of an earlier one of that name.

    Of several processes (training.distributed) each makes a Run and calls its methods; the main one writes.
    """

    def __init__(self, name: str, settings: dict, state: dict, resume: bool = False, data: str | None = None,
                 folder: Path = RUNS, classes: Classes = LAB_CLASSES) -> None:
        self.folder = Path(folder) / str(name)
        if self.folder.resolve() in (Path(folder).resolve(), *Path(folder).resolve().parents):
            raise LabError(f"expected a name for the run's folder in {folder}, found {name!r}: set RUN")
        self.settings = plain({key: value for key, value in settings.items() if key != "RESUME"}, "the settings")
        self.state, self.classes = state, classes
        self.epoch, self.best, self.history = 0, float("-inf"), []
        self.checkpoint = self.folder / "checkpoint.pth"
        self.about = {
            "settings": self.settings, "data": data, "processes": shard()[1],
            "parameters": sum(parameter.numel() for parameter in state["network"].parameters()),
            "started": _now(), "resumed": [], "machine": describe_machine(state["network"]),
            "versions": describe_versions()}
        if classes != LAB_CLASSES:
            self.about["class_names"] = list(classes.names)
        self._begun = False  # whether the folder is this run's
        self._thumbnails = None
        if is_main():
            for leftover in self.folder.glob(".*.part"):  # of a writer that was killed
                leftover.unlink(missing_ok=True)
        if resume and self.checkpoint.exists():
            self._load()
        elif is_main() and self._older_run():
            print(f"{self.folder} holds an older run; it moves to {self.folder.name}.previous when this one's first "
                  f"epoch is finished{'; RESUME = True would go on with it' * self.checkpoint.exists()}",
                  file=sys.stderr)
        self._mark = time.perf_counter()

    def finish_epoch(self, record: dict, matrix: ConfusionMatrix | None = None) -> None:
        """Adds one epoch's figures (JSON values, `miou` among them) and saves the checkpoint, then the history.

        The record also gets the epoch's number, its `seconds` since the last call, the time it was `finished` and,
        from `matrix`, its `confusion`, nested ints (C, C). Raises LabError if a figure is no JSON value.
        Save the best weights before this call: a run that is killed between the two then still has them.
        """
        record = plain(record, "the epoch's figures")
        if not isinstance(record.get("miou"), (int, float)):
            raise LabError(f"expected a number as miou among the epoch's figures, found {record.get('miou')!r}")
        confusion = {} if matrix is None else {"confusion": matrix.counts.tolist()}
        now = time.perf_counter()
        self.epoch += 1
        self.history.append({"epoch": self.epoch, **record, "seconds": round(now - self._mark, 3), "finished": _now(),
                             **confusion})
        self.best = max(self.best, record["miou"])
        self._mark = now
        states = random_states()  # all processes take part in it
        if not is_main():
            return
        if not self._begun:
            self._begin()
        _save(self.checkpoint, {
            **self.about, "epoch": self.epoch, "best": self.best, "history": self.history, "random": states,
            "classes": {name: type(part).__name__ for name, part in self.state.items()},
            "state": {name: part.state_dict() for name, part in self.state.items()}}, try_loading=self.epoch == 1)
        self._write_history()

    def save_thumbnails(self, images: Pixels, target: Pixels, pred: Pixels) -> None:
        """Draws up to 8 pictures as rows of thumbnails.png: picture, label, prediction, each at half its size.

        images: uint8 (N, H, W, 3), RGB; target: integers (N, H, W), the run's classes or 255, drawn white; pred: the
        same without 255. Arrays or tensors on any device. Before a new run's first finished epoch they wait for it.
        """
        images, target, pred = (np.asarray(part.cpu() if isinstance(part, torch.Tensor) else part)[:8]
                                for part in (images, target, pred))
        if images.dtype != np.uint8 or images.shape != (*target.shape, 3) or target.shape != pred.shape:
            raise ValueError(f"expected uint8 images (N, H, W, 3), target and pred (N, H, W), got {images.dtype} "
                             f"{images.shape}, {target.shape} and {pred.shape}")
        if not is_main():
            return
        n, h, w = target.shape[0], target.shape[1] // 2, target.shape[2] // 2
        halves = images[:, :2 * h, :2 * w].reshape(n, h, 2, w, 2, 3).mean((2, 4)).round().astype(np.uint8)
        labels = [self.classes.colorize(part[:, :2 * h:2, :2 * w:2]) for part in (target, pred)]  # (N, H/2, W/2, 3)
        self._thumbnails = Image.fromarray(np.concatenate([halves, *labels], 2).reshape(n * h, 3 * w, 3))
        if self._begun:
            self._write_thumbnails()

    def _begin(self) -> None:
        """Makes the folder this run's: moves an older run aside, writes settings.json."""
        if self._older_run():
            move_aside(self.folder, "choose another RUN")
        write_json(self.folder / "settings.json", self.about)
        if self._thumbnails is not None:
            self._write_thumbnails()
        self._begun = True

    def _older_run(self) -> bool:
        return self.checkpoint.exists() or (self.folder / "history.json").exists()

    def _write_history(self) -> None:
        # JSON has no NaN (the IoU of a category that does not occur): null stands for it in the file
        records = json.loads(json.dumps(self.history), parse_constant=lambda name: None)
        lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
        with replacing(self.folder / "history.json") as temporary:
            temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")

    def _write_thumbnails(self) -> None:
        with replacing(self.folder / "thumbnails.png") as temporary:
            self._thumbnails.save(temporary, format="PNG")

    def _load(self) -> None:
        """Loads the checkpoint into `state`, all or nothing, and brings settings.json and history.json up to it."""
        try:
            saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            settings = dict(saved["settings"])
        except Exception as error:
            raise LabError(f"expected a checkpoint to resume from, found a damaged file, {self.checkpoint} "
                           f"({type(error).__name__}): delete it, or set RESUME = False") from None
        self._check(saved, settings)
        before = {name: copy.deepcopy(part.state_dict()) for name, part in self.state.items()}
        try:
            for name, part in self.state.items():
                part.load_state_dict(saved["state"][name])
        except Exception as error:
            for other, content in before.items():
                self.state[other].load_state_dict(content)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise self._refusal(f"a checkpoint of this {name}", f"one that does not load ({reason})") from None
        set_random_state(saved["random"][shard()[0]])
        self.epoch, self.best, self.history = saved["epoch"], saved["best"], saved["history"]
        resumed = {"time": _now(), "epoch": self.epoch, "machine": self.about["machine"],
                   "versions": self.about["versions"]}
        self.about = {**{key: saved[key] for key in self.about}, "resumed": [*saved["resumed"], resumed]}
        self._begun = True
        if is_main():
            write_json(self.folder / "settings.json", self.about)
            self._write_history()  # a run killed right after its checkpoint has not recorded its last epoch there

    def _check(self, saved: dict, settings: dict) -> None:
        """Raises LabError, naming the first difference, unless the checkpoint is one of this very run."""
        keys = (*self.about, "epoch", "best", "history", "random", "classes", "state")
        lacking = [key for key in keys if key not in saved and key != "class_names"]
        if lacking:
            raise self._refusal("a checkpoint of this version of the lab", f"one without {lacking[0]!r}", "delete it")
        other = [key for key in {**self.settings, **settings}
                 if key not in FREE_SETTINGS and settings.get(key) != self.settings.get(key)]
        if other:
            key = other[0]
            found = f"{key} = {settings.get(key)!r} instead of {self.settings.get(key)!r}"
            raise self._refusal("a checkpoint of this run's settings", found, f"set {key} back")
        if saved.get("class_names") != self.about.get("class_names"):
            raise self._refusal("a checkpoint of this data set's classes", "one of other classes", "set DATA back")
        data, processes = self.about["data"], self.about["processes"]
        if saved["data"] != data:
            raise self._refusal("a checkpoint of this data set", f"{saved['data']!r} instead of {data!r}",
                                "set DATA back")
        if saved["processes"] != processes:
            raise self._refusal("a checkpoint of this number of processes",
                                f"{saved['processes']} instead of {processes}", f"resume with {saved['processes']}")
        if sorted(saved["state"]) != sorted(self.state):
            raise self._refusal(f"a checkpoint of {', '.join(self.state)}", f"one of {', '.join(saved['state'])}")
        for name, part in self.state.items():
            if isinstance(part, nn.Module):
                difference = first_difference(part.state_dict(), saved["state"][name])
            else:
                own, found = type(part).__name__, saved["classes"][name]
                difference = f"{found} instead of {own}" if found != own else None
            if difference:
                raise self._refusal(f"a checkpoint of this {name}", difference)

    def _refusal(self, expected: str, found: str, advice: str = "undo the change") -> LabError:
        return LabError(f"expected {expected}, found {found} in {self.checkpoint}: {advice}, or RESUME = False")


def _save(path: str | Path, content: object, try_loading: bool = False) -> None:
    # By way of memory: torch.save into a full disk raises a RuntimeError that does not say so.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    if try_loading:  # better now than when the run is to be resumed
        buffer.seek(0)
        try:
            torch.load(buffer, map_location="cpu", weights_only=True)
        except Exception as error:
            raise LabError(f"expected tensors and plain values in each part's state_dict, found what a checkpoint "
                           f"cannot hold ({str(error).splitlines()[0]}): keep it out of the Run's state") from None
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


if __name__ == "__main__":
    from training.compare import main  # needs this module

    sys.stdout.reconfigure(encoding="utf-8")  # names of runs, wherever the output goes
    run_main(main)
