"""A run's folder: its settings, what it measured each epoch, and a checkpoint to resume from.

    runs/<name>/settings.json     settings, data set, processes, parameters, machine, versions, when started and resumed
    runs/<name>/history.json      one record an epoch, a line each: its figures, seconds and confusion matrix
    runs/<name>/checkpoint.pth    all it takes to go on: network, average, optimizer, scheduler, epoch, best mIoU,
                                  history, random states
    runs/<name>/best.pth          the weights of the best epoch, float32, as they were trained
    runs/<name>/thumbnails.png    a few images, their labels and predictions

Every file is written beside its place and renamed into it: an interruption leaves the previous one whole.
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
from training.environment import describe_machine, describe_versions, random_states, set_random_state
from utils.classes import LAB_CLASSES, Classes
from utils.files import move_aside, replacing, write_json
from utils.lab import RUNS, LabError
from utils.metric import ConfusionMatrix, Pixels

# What may differ when a run goes on: where things lie, and what it is computed on. The data set has its fingerprint.
FREE_SETTINGS = ("DATA", "RESUME", "DEVICE", "MODEL", "COMPILE")
NOT_RECORDED = ("RESUME", "RUN")

class RunFolder:
    """The folder `name` under `folder`; `state` holds the objects with a state_dict to save and resume.

    state: "network", the plain one (not the compiled or parallel one made of it), and whatever else changes while it
    trains. data: the fingerprint of the data set. classes: its classes; settings.json names them, as `class_names`,
    where they are not the lab's. task: the number of the task that the run belongs to.
    `epoch` says how many epochs are done, `best` is the best mIoU so far, `history` holds one record an epoch.

    With `resume` the checkpoint in the folder, if there is one, is loaded into `state`, and the random states of
    torch, CUDA, numpy and Python are set. A checkpoint of other settings (FREE_SETTINGS apart), another data set,
    number of processes or network, or with other parts, is refused with a LabError; `state` is then as it was.

    Without `resume` the run starts from scratch. An older run in the folder stays untouched until the first epoch is
    finished; then its whole folder becomes `<name>.previous`, in place of an earlier one of that name.

    Of several processes (training.distributed) each makes a RunFolder and calls its methods; the main one writes.
    """

    def __init__(self, name: str, settings: dict, state: dict, resume: bool = False, data: str | None = None,
                 folder: Path = RUNS, classes: Classes = LAB_CLASSES, task: int | None = None) -> None:
        self.folder = Path(folder) / str(name)
        if self.folder.resolve() in (Path(folder).resolve(), *Path(folder).resolve().parents):
            raise LabError(f"expected a name for the run's folder in {folder}, found {name!r}: set RUN")
        self.settings = plain({key: value for key, value in settings.items() if key not in NOT_RECORDED},
                              "the settings")
        self.state, self.classes = state, classes
        self.epoch, self.best, self.history = 0, float("-inf"), []
        self.checkpoint, self.best_weights = self.folder / "checkpoint.pth", self.folder / "best.pth"
        self.about = {
            "settings": self.settings, "data": data, "processes": shard()[1],
            "parameters": sum(parameter.numel() for parameter in state["network"].parameters()),
            "started": _now(), "resumed": [], "machine": describe_machine(state["network"]),
            "versions": describe_versions()}
        if classes != LAB_CLASSES:
            self.about["class_names"] = list(classes.names)
        if task:
            self.about["task"] = task
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

    def finish_epoch(self, record: dict, matrix: ConfusionMatrix | None = None,
                     weights: dict[str, torch.Tensor] | None = None) -> None:
        """Adds one epoch's figures (JSON values, `miou` among them); saves `weights` as the best ones, if given, then
        the checkpoint, then the history.

        The record also gets the epoch's number, its `seconds` since the last call, the time it was `finished` and,
        from `matrix`, its `confusion`, nested ints (C, C). Raises LabError if a figure is no JSON value.
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
        if weights is not None:  # before the checkpoint: a run that is killed between the two still has them
            save_file(self.best_weights, weights)
        save_file(self.checkpoint, {
            **self.about, "epoch": self.epoch, "best": self.best, "history": self.history, "random": states,
            "classes": {name: type(part).__name__ for name, part in self.state.items()},
            "state": {name: part.state_dict() for name, part in self.state.items()}}, try_loading=self.epoch == 1)
        self._write_history()

    def save_thumbnails(self, images: Pixels, target: Pixels, pred: Pixels) -> None:
        """Draws up to 8 images as rows of thumbnails.png: image, label, prediction, each at half its size.

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
        self.about = {key: saved.get(key, value) for key, value in self.about.items()}
        self.about["resumed"] = [*saved["resumed"], resumed]
        self._begun = True
        if is_main():
            write_json(self.folder / "settings.json", self.about)
            self._write_history()  # a run killed right after its checkpoint has not recorded its last epoch there

    def _check(self, saved: dict, settings: dict) -> None:
        """Raises LabError, naming the first difference, unless the checkpoint is one of this very run."""
        keys = (*self.about, "epoch", "best", "history", "random", "classes", "state")
        lacking = [key for key in keys if key not in saved and key not in ("class_names", "task")]
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

    def _refusal(self, expected: str, found: str, advice: str = "undo the change, restart the kernel") -> LabError:
        return LabError(f"expected {expected}, found {found} in {self.checkpoint}: {advice}, or RESUME = False")


def save_file(path: str | Path, content: object, try_loading: bool = False) -> None:
    """torch.save, in one step; with `try_loading` a LabError where weights_only=True could not load the file."""
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
