"""The validation images that a network does best and worst."""
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import nn

from dataset.batches import Batches
from figures.images import show_panels
from utils.evaluation import predict
from utils.metric import ConfusionMatrix


def show_best_and_worst(network: nn.Module, batches: Batches, matrices: Sequence[ConfusionMatrix], number: int = 2
                        ) -> Figure:
    """`number` images of the highest and `number` of the lowest mIoU, with label and prediction.

    matrices: each image's, in the order of `batches`, as utils.evaluation.evaluate_images gives them.
    """
    scores = torch.tensor([matrix.miou() for matrix in matrices]).nan_to_num()  # NaN: an image without labels
    order = scores.argsort(descending=True)
    chosen = torch.cat([order[:number], order[number:][-number:]])
    data, target = batches.take(chosen)
    classes = batches.dataset.classes
    pred = predict(network, data, num_classes=len(classes))
    return show_panels(data, target, pred, captions=[f"mIoU {score:.3f}" for score in scores[chosen]], classes=classes)
