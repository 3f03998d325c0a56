"""A training run as the notebooks use it: its epochs, bars and figures, the best weights, and where they go.

    python -m training.runs              lists all runs, best first
    python -m training.runs NAME NAME    compares runs
"""
import contextlib
import copy
import math
import re
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dataset.batches import Batches
from training import distributed
from training.folder import RunFolder, save_file
from training.names import run_name, weights_file
from training.networks import RESTART
from training.settings import Settings
from training.step import memory_advice
from utils.classes import LAB_CLASSES
from utils.evaluation import predict
from utils.lab import IGNORE, LabError
from utils.machine import synchronize
from utils.metric import AverageMeter, ConfusionMatrix
from utils.terminal import bar_stream, run_main

LOOK = 10  # steps between two looks at the loss and the weights, for which a GPU is waited for
SHOWN = 4  # validation images in thumbnails.png
AGAIN = "run again from the cell that builds the network"
USED_UP = ("network", "optimizer", "scheduler")  # parts that a second training would go on with
_trained: weakref.WeakSet = weakref.WeakSet()    # those of all runs so far


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Saves the state_dict alone, on the CPU, as `load_model` expects it; `path` is replaced in one step.

    Of several processes the main one writes, the others do nothing.
    """
    if distributed.is_main():
        save_file(path, _on_cpu(network))


class Run:
    """One training of a network with the loop of a notebook, which may be any that uses the batches of `training`.

        run = Run(settings, train_batches, val_batches, network=network, optimizer=optimizer, ...)
        for epoch in run.epochs():
            with run.advice():
                trained = train(model, run.training(train_batches))
                validated = validate(network, run.validating(val_batches))
            run.finish_epoch(trained, validated)

    settings: from set_up; train, val: the batches, also a DataLoader's. deploy: makes of the network the copy whose
    weights go to `model`, the path of MODEL, whenever an epoch is better than all before (default: the network itself).
    parts: what is saved and resumed, "network" and "optimizer" among them; None is left out. "ema" is the average of
    the weights (training.step.average_weights): it is updated after each step, and it is what is validated and kept.

    Raises LabError for an optimizer or a scheduler that was used before, one that belongs to another network, and for
    settings that are no longer those of the cells; and what RunFolder raises.
    """

    def __init__(self, settings: Settings, train: Batches, val: Batches,
                 deploy: Callable[[nn.Module], nn.Module] | None = None, **parts: object) -> None:
        task = settings.task
        self.settings, self.deploy = settings, deploy
        self.val = val if isinstance(val, Batches) else Batches(val.dataset, SHOWN)  # to draw some images from
        self.network, self.classes = parts["network"], train.dataset.classes
        self.average = parts.get("ema")
        self.kept = self.average.module if self.average else self.network
        self.parts = {name: part for name, part in parts.items() if part is not None}
        self.name = run_name(settings.get("RUN", f"task{task.number}"), settings.get("NETWORK"))
        used = self._check(train)
        self.model = Path(settings.get("MODEL") or weights_file(task, self.name))
        self.folder = RunFolder(self.name, {**settings, "MODEL": self.model}, self.parts, resume=settings.resume,
                                data=train.dataset.fingerprint, classes=self.classes, task=task.number)
        if used and not self.folder.epoch:
            raise LabError(f"expected a new {used[0]}, found one that has trained before: {AGAIN}, or go on with that "
                           "run: set RESUME = True, run the settings cell and this one")
        self.threshold = task.miou if self.classes == LAB_CLASSES else None  # the mIoU to reach
        if self.name != str(settings.get("RUN", self.name)):
            print(f"another network: this run is called {self.name}, its weights go to {self.model}")
        self._meters, self._seconds = self.meters(), math.nan

    @property
    def history(self) -> list[dict]:
        """One record an epoch."""
        return self.folder.history

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def epochs(self) -> Iterator[int]:
        """The epochs that are still to be trained, from 0; afterwards the other processes of torchrun are left."""
        self.settings.check_unchanged()
        _trained.update(self.parts[name] for name in USED_UP if name in self.parts)
        self._started, self._first = time.perf_counter(), self.folder.epoch
        if self.folder.epoch and not self.model.exists():  # another machine, where only runs/ was kept
            with torch.random.fork_rng():  # deploy may draw random numbers, which the next epoch would miss
                kept = self._load_best(copy.deepcopy(self.kept))
                save_weights(self.deploy(kept) if self.deploy else kept, self.model)
        yield from range(self.folder.epoch, self.settings["EPOCHS"])
        distributed.finish()

    def meters(self) -> dict[str, ConfusionMatrix | AverageMeter]:
        """Empty meters for one pass: "metric", the confusion matrix; "loss"; "time", the seconds an image."""
        self._meters = {"metric": ConfusionMatrix(len(self.classes)), "loss": AverageMeter(), "time": AverageMeter()}
        return self._meters

    def training(self, batches: Iterable[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
        """The batches of one epoch's training, on the network's device, with a bar.

        Every LOOK steps the bar shows the mean loss of the last `meters`, and NaN in the weights ends the training with
        a LabError.
        """
        if hasattr(batches, "set_epoch"):
            batches.set_epoch(self.folder.epoch)
        weight = next(self.network.parameters())
        with self._bar(batches, "train") as bar:
            for step, batch in enumerate(bar):
                yield [part.to(self.device, non_blocking=True) for part in batch]
                if self.average:
                    self.average.update_parameters(self.network)
                if step % LOOK == 0 or step == len(bar) - 1:
                    if not weight.isfinite().all():
                        raise LabError(f"expected finite weights, found NaN or infinity after step {step + 1} of epoch "
                                       f"{self.folder.epoch + 1}: lower LEARNING_RATE")
                    bar.set_postfix(loss=f"{self._meters['loss'].avg:.3f}", refresh=False)

    def validating(self, batches: Iterable[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
        """The batches of one validation, on the network's device, with a bar; their time is measured."""
        distributed.share_buffers(self.kept)
        started, n = time.perf_counter(), 0
        with self._bar(batches, "validate") as bar:
            for batch in bar:
                yield [part.to(self.device, non_blocking=True) for part in batch]
                n += len(batch[0])
        synchronize(self.device)
        self._seconds = (time.perf_counter() - started) / max(n, 1)
        self._meters["time"].update(self._seconds, n)

    @contextlib.contextmanager
    def advice(self) -> Iterator[None]:
        """Turns what most often goes wrong in the loops into one line that says what to do."""
        try:
            with memory_advice(self.network, self.device, self.settings["BATCH_SIZE"], self.settings.get("WIDTH")):
                yield
        except (IndexError, RuntimeError) as error:
            # torch's own words for a target that is no class, on a CPU and on a GPU
            if not re.search(r"Target -?\d+ is out of bounds|device-side assert triggered", str(error)):
                raise
            raise LabError(f"expected classes in the target, found others ({str(error).splitlines()[0]}): {IGNORE} "
                           "stands for no class, pass ignore_index=IGNORE to the criterion (after an error of a GPU "
                           "restart the kernel)") from None
        except ValueError as error:
            if "too many values to unpack" in str(error):
                raise LabError("expected `for data, target, *soft in data_loader`, found a loop over two parts: with a "
                               "TEACHER a batch has a third, the teacher's answers") from None
            if "Tried to step" in str(error):
                raise LabError("expected one step of the scheduler after each step of the optimizer, found more than "
                               f"the schedule was made for: {AGAIN}") from None
            raise

    def finish_epoch(self, trained: dict, validated: dict) -> bool:
        """Records an epoch by the meters of its training and its validation; whether it is better than all before.

        Then the kept weights go to MODEL and to the run's folder, and the thumbnails are drawn anew. Raises LabError
        for a loss that is not finite.
        """
        for meters in (trained, validated):
            distributed.sum_meters(meters)
        loss, miou = trained["loss"].avg, validated["metric"].miou()
        if not math.isfinite(loss):
            raise LabError(f"expected a finite loss, found {loss} in epoch {self.folder.epoch + 1}: lower "
                           "LEARNING_RATE")
        better = miou > self.folder.best
        if better:
            save_weights(self.deploy(self.kept) if self.deploy else self.kept, self.model)
            few = range(min(SHOWN, len(self.val.dataset)))
            pred = predict(self.kept.eval(), self.val.take(few)[0], num_classes=len(self.classes))
            self.folder.save_thumbnails(*self.val.stored(few), pred)
        record = {"train_loss": loss, "train_miou": trained["metric"].miou(), "loss": validated["loss"].avg,
                  "miou": miou, "accuracy": validated["metric"].accuracy(), "seconds_per_image": self._seconds}
        self.folder.finish_epoch(record, validated["metric"], _on_cpu(self.kept) if better else None)
        self._print(record, better)
        return better

    def best_network(self) -> nn.Module:
        """The network with the weights of the best epoch, float32, in eval mode: before deploy."""
        return self._load_best(self.kept)

    def _load_best(self, network: nn.Module) -> nn.Module:
        try:
            network.load_state_dict(torch.load(self.folder.best_weights, map_location="cpu", weights_only=True))
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise LabError(f"expected the best epoch's weights in {self.folder.best_weights}, found none that this "
                           f"network can load ({reason}): train again; {RESTART}") from None
        return network.eval()

    def _print(self, record: dict, better: bool) -> None:
        done, epochs = self.folder.epoch, self.settings["EPOCHS"]
        left = (time.perf_counter() - self._started) / (done - self._first) * (epochs - done)
        print(f"epoch {done:3d}/{epochs} train loss {record['train_loss']:.3f} mIoU {record['train_miou']:.3f} "
              f"val loss {record['loss']:.3f} accuracy {record['accuracy']:.3f} mIoU {record['miou']:.4f}"
              f"{'*' if better else ' '} {record['seconds_per_image'] * 1000:.1f} ms/image {left / 60:.1f} min left")

    def _bar(self, batches: Iterable, what: str) -> tqdm:
        return tqdm(batches, f"epoch {self.folder.epoch + 1}/{self.settings['EPOCHS']} {what}", unit="batch",
                    leave=False, ncols=90, file=bar_stream())

    def _check(self, train: Batches) -> list[str]:
        """Raises LabError for parts that do not belong together; which parts were used for training before."""
        self.settings.check_unchanged()
        optimizer, scheduler = self.parts["optimizer"], self.parts.get("scheduler")
        own = {id(parameter) for parameter in self.network.parameters()}
        if self.settings.network is not self.network:
            raise LabError(f"expected a network that was built with these settings, found an older one: {AGAIN}")
        if any(id(parameter) not in own for group in optimizer.param_groups for parameter in group["params"]):
            raise LabError("expected an optimizer of this network, found one of another network: run again from the "
                           "cell that makes the optimizer")
        if getattr(scheduler, "optimizer", optimizer) is not optimizer:
            raise LabError("expected a scheduler of this optimizer, found one of another optimizer: run again from the "
                           "cell that makes the optimizer")
        for name, found in _asked_of(train).items():
            if name in self.settings and self.settings[name] != found:
                raise LabError(f"expected training batches of {name} = {self.settings[name]!r}, found {found!r}: run "
                               "again from the cell that makes them")
        used = {name: part in _trained for name, part in self.parts.items() if name in USED_UP}
        used["optimizer"] |= bool(optimizer.state)
        used["scheduler"] = used.get("scheduler", False) or getattr(scheduler, "last_epoch", 0) > 0
        return [name for name, is_used in used.items() if is_used]


def _asked_of(train: Batches) -> dict:
    """The settings that the training batches were made with, as far as they show it."""
    augment = getattr(train.dataset, "augment", None)
    found = {name.upper(): getattr(augment, name, None) for name in ("flip", "scale", "rotate", "color")}
    found["BATCH_SIZE"] = train.batch_size * distributed.shard()[1]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()
            if value is not None}


def _on_cpu(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}


if __name__ == "__main__":
    from training.compare import main

    sys.stdout.reconfigure(encoding="utf-8")  # names of runs, wherever the output goes
    run_main(main)
