"""What a network's graph costs, for the network's author: exported, checked and replayed in this very process."""
from typing import NamedTuple

import torch
from torch import nn

from utils.evaluation import arg_max, deterministic
from utils.graph.export import export_network
from utils.graph.replay import Replay
from utils.graph.schema import parse
from utils.lab import GRADER_TORCH, INPUT_SIZE


class Proved(NamedTuple):
    """A graph's cost: multiply-accumulates of an image, KB, operators; pixels in 1 whose class is another one's."""

    macs: int
    size_kb: float
    nodes: int
    differing: float


def prove(network: nn.Module) -> Proved:
    """Exports and replays a network on the CPU. Raises GraphError for what the grader could not replay either."""
    graph, storages = export_network(network)
    replay = Replay(parse(graph), storages)
    image = torch.randn(1, 3, *INPUT_SIZE, generator=torch.Generator().manual_seed(0))
    with deterministic(), torch.no_grad():
        logits, costs = replay.run(image)
        differing = (arg_max(logits) != arg_max(network(image))).float().mean().item()
    return Proved(costs.macs, replay.size_kb, len(replay.graph.nodes), differing)


def torch_in_words() -> str:
    """This torch's version; where the grader's is newer, that its word counts."""
    own = tuple(int(part) for part in torch.__version__.split(".")[:2])
    newer = f", and the grader's, {'.'.join(map(str, GRADER_TORCH))} or newer, decides" if own < GRADER_TORCH else ""
    return f"torch {torch.__version__}{newer}"
