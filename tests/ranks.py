"""Run by test_distributed.py: trains and scores a small network in 1, 2, 3 and 8 processes, prints what came out.

One process imports torch and forks the others, which join over gloo as torchrun's would.
"""
import json
import os
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import numpy as np
import torch
from torch import nn

from dataset.augment import Augment
from dataset.batches import Batches
from training import distributed
from utils.evaluation import evaluate_images
from utils.lab import IGNORE
from utils.metric import AverageMeter, ConfusionMatrix

N = 24  # images; scored are 23, which 2, 3 and 8 do not divide
H, W = 64, 128
CLASS_WEIGHTS = torch.tensor([0.5, 1.0, 1.5, 2.0, 0.7, 1.1, 0.9, 3.0], dtype=torch.float64)


class Images:
    """Random images as a data set; some have hardly a labeled pixel, one has none."""

    cached = None

    def __init__(self, split: str, n: int, augment: Augment | None = None) -> None:
        rng = np.random.RandomState(3)
        targets = rng.randint(0, 8, (n, H, W)).astype(np.uint8)
        for index in range(1, n, 5):
            targets[index, :, 3 * index:] = IGNORE
        targets[7] = IGNORE
        self.arrays = rng.randint(0, 256, (n, H, W, 3)).astype(np.uint8), targets
        self.split, self.n, self.augment = split, n, augment

    def __len__(self) -> int:
        return self.n


def train(images: Images, steps: int) -> dict[str, list]:
    """Some steps without batch norm, which would see another batch in each process; returns weights and meters."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 4, padding=1), nn.Tanh(), nn.Upsample(scale_factor=4),
                            nn.Conv2d(4, 8, 1)).double()  # float32 sums differ in the last digits
    model = distributed.parallel(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    criterion = nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, ignore_index=IGNORE)
    batches = Batches(images, 24, shuffle=True, seed=4, shard=distributed.shard())
    meters = {"metric": ConfusionMatrix(), "loss": AverageMeter()}
    for _ in range(steps):
        for data, target in batches:
            optimizer.zero_grad()
            output = model(data.double())
            loss = distributed.balance(criterion(output, target), target, CLASS_WEIGHTS)
            loss.backward()
            optimizer.step()
            meters["metric"].update(target, output.max(1).indices)
            meters["loss"].update(loss, len(data))
    distributed.sum_meters(meters)
    return {"weights": torch.cat([part.flatten() for part in network.state_dict().values()]).tolist(),
            "loss": meters["loss"].avg, "train_counts": meters["metric"].counts.tolist()}


def score(images: Images) -> dict[str, list]:
    """The confusion matrix of a fixed network with batch norm, whose statistics differ until they are shared."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
    network[1].running_mean += 0.3 * distributed.shard()[0]
    distributed.share_buffers(network)
    batches = Batches(images, 24, shard=distributed.shard())
    metric = sum(evaluate_images(network, batches, description=""), ConfusionMatrix())
    distributed.sum_meters({"metric": metric})
    return {"counts": metric.counts.tolist(), "mean": network[1].running_mean.tolist()}


def rank_main(rank: int, world: int, folder: str, training: Images, scored: Images) -> None:
    torch.set_num_threads(1)
    if world > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="localhost",
                          MASTER_PORT="0")
        store = torch.distributed.FileStore(str(Path(folder, f"store{world}")), world)
        torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
        distributed.start("cpu")
    result = {**train(training, 1), **score(scored), "main": distributed.is_main()}
    distributed.finish()
    Path(folder, f"{world}-{rank}.json").write_text(json.dumps(result), encoding="utf-8")


def main() -> None:
    folder, training, scored = sys.argv[1], Images("train", N, Augment(crop=0.7)), Images("val", N - 1)
    for world in (1, 2, 3, 8):
        children = []
        for rank in range(world):
            if (child := os.fork()) == 0:
                try:
                    rank_main(rank, world, folder, training, scored)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            children.append(child)
        if any(os.waitpid(child, 0)[1] for child in children):
            sys.exit(f"a process of {world} failed")


if __name__ == "__main__":
    main()
