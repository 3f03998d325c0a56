"""Draws docs/sample.png, the picture in the README: python -m figures.overview, after make lab."""
from dataset.batches import Batches
from dataset.dataset import SegmentationDataset
from figures.pictures import show_panels
from utils.evaluation import load_model, predict
from utils.files import replacing
from utils.lab import ROOT, SAMPLE_DATA, TASKS
from utils.terminal import run_main

PICTURES = (3, 17, 38)  # of the sample's validation split


def main() -> None:
    batches = Batches(SegmentationDataset(SAMPLE_DATA, "val"), batch_size=1)
    data, target = batches.take(PICTURES)
    models = [load_model(task.network_file, ROOT / task.model_file) for task in TASKS.values()]
    preds = [predict(model, data) for model in models]
    figure = show_panels(data, target, *preds, titles=("picture", "label", "task 1: U-Net", "task 2: low complexity"),
                         width=14)
    with replacing(ROOT / "docs" / "sample.png") as temporary:
        figure.savefig(temporary, format="png", dpi=90)


if __name__ == "__main__":
    run_main(main)
