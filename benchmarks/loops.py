"""Two training loops: the notebooks', and the plain one of most hand-outs."""
import io
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.data import Rows
from training import distributed
from training.losses import class_shares, class_weights, thin
from training.step import Precision, prepare
from utils.evaluation import arg_max
from utils.lab import IGNORE, NUM_CLASSES
from utils.machine import synchronize
from utils.metric import AverageMeter, ConfusionMatrix

LEARNING_RATE = 1e-3
STEPS = 1_000_000  # the schedule's: more than are ever made


def class_weights_of(rows: Rows) -> Tensor:
    return class_weights(class_shares(rows.arrays[1][:8]))


class Notebook:
    """The loop of Lab05_segmentation_task2.ipynb with a plain loss, so that it computes what a hand-out's would."""

    def __init__(self, network: nn.Module, device: torch.device, weights: Tensor, precision: str = "auto") -> None:
        self.device, self.weights = device, weights.to(device)
        self.network = network.to(device, memory_format=torch.channels_last)
        self.precision = Precision(precision, device)
        self.criterion = nn.CrossEntropyLoss(weight=self.weights, ignore_index=IGNORE)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4, fused=True)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, LEARNING_RATE, STEPS, pct_start=0.1)
        self.model = prepare(self.network)

    def train(self, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, np.ndarray]:
        """The mean loss and the confusion matrix, at which the device has done all that was queued."""
        scaler = self.precision.scaler
        metric, mean = ConfusionMatrix(), AverageMeter()
        self.network.train()
        bar = tqdm(batches, unit="batch", leave=False, ncols=90, file=io.StringIO())
        for data, target in bar:
            self.optimizer.zero_grad(set_to_none=True)
            with self.precision.autocast():
                output = self.model(data)
                target = thin(target, output.shape[2:])
                loss = distributed.balance(self.criterion(output, target), target, self.weights)
            scaler.scale(loss).backward()
            scaler.step(self.optimizer)
            scaler.update()
            self.scheduler.step()
            metric.update(target, arg_max(output))
            mean.update(loss, len(data))
            if bar.n % 10 == 0:
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        synchronize(self.device)
        return mean.avg, metric.counts


class Handout:
    """The usual loop: float32, contiguous, argmax, the matrix in numpy and the loss fetched in each step."""

    def __init__(self, network: nn.Module, device: torch.device, weights: Tensor) -> None:
        self.device, self.network = device, network.to(device)
        self.criterion = nn.CrossEntropyLoss(weight=weights.to(device), ignore_index=IGNORE)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, LEARNING_RATE, STEPS, pct_start=0.1)

    def train(self, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, np.ndarray]:
        """As Notebook.train."""
        losses, counts = [], np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
        self.network.train()
        for data, target in batches:
            # Contiguous, whatever the batch's memory: it is what a DataLoader yields.
            data, target = data.to(self.device).contiguous(), target.to(self.device)
            output = self.network(data)
            loss = self.criterion(output, target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            counts += fast_hist(target.cpu().numpy().ravel(), output.argmax(1).cpu().numpy().ravel())
            losses.append(loss.item())
        return float(np.mean(losses)), counts


def fast_hist(target: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """The confusion matrix as FCN's published code counts it (Long et al., 2015)."""
    known = (target >= 0) & (target < NUM_CLASSES)
    fused = NUM_CLASSES * target[known].astype(int) + pred[known]
    return np.bincount(fused, minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)
