"""A run as a notebook uses it: any loop over its batches, the best weights, and what is refused in one line."""
import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from dataset.augment import Augment
from dataset.batches import Batches
from dataset.dataset import SegmentationDataset
from training import folder
from training.runs import Run
from training.settings import Settings
from training.step import average_weights, one_cycle
from utils.lab import IGNORE, TASKS, LabError

PIXELS = 2 * 256 * 512  # of the sample's validation images


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    """Runs and weights go to a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folder.RunFolder.__init__, "__defaults__",
                        (*folder.RunFolder.__init__.__defaults__[:2], tmp_path / "runs",
                         *folder.RunFolder.__init__.__defaults__[3:]))


def prepared(sample, task: int = 1, **names: object) -> SimpleNamespace:
    """What the cells of a notebook have made when the training begins: a network of one layer."""
    names = {"EPOCHS": 2, "BATCH_SIZE": 2, "RUN": f"task{task}", "RESUME": False, "recipe": {"FLIP": 0.5}, **names}
    torch.manual_seed(0)
    made = SimpleNamespace(names=names, settings=Settings(TASKS[task], names), network=nn.Conv2d(3, 8, 1))
    made.settings.network = made.network
    made.train = Batches(SegmentationDataset(sample, "train", Augment(flip=0.5)), 2, shuffle=True)
    made.val = Batches(SegmentationDataset(sample, "val"), 2)
    made.optimizer = torch.optim.SGD(made.network.parameters(), 0.01)
    made.scheduler = one_cycle(made.optimizer, 2 * len(made.train))
    return made


def start(made: SimpleNamespace, **more: object) -> Run:
    return Run(made.settings, made.train, made.val,
               **{"network": made.network, "optimizer": made.optimizer, "scheduler": made.scheduler, **more})


def step(made: SimpleNamespace, data: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    made.optimizer.zero_grad()
    output = made.network(data)
    loss = nn.functional.cross_entropy(output, target, ignore_index=255)
    loss.backward()
    made.optimizer.step()
    return loss, output


def fit(made: SimpleNamespace, run: Run, data_loader=None) -> Run:
    """A plain loop over all epochs."""
    for _ in run.epochs():
        passes = []
        for batches in (run.training(data_loader or made.train), run.validating(made.val)):
            Meter = run.meters()  # noqa: N806
            for data, target in batches:
                loss, output = step(made, data, target)
                Meter["metric"].update(target, output.max(1)[1])
                Meter["loss"].update(loss, len(data))
            passes.append(Meter)
        run.finish_epoch(*passes)
    return run


def test_a_plain_loop_leaves_weights_figures_and_images(sample, tmp_path, capsys):
    made = prepared(sample)
    run = fit(made, start(made))
    told = capsys.readouterr().out.splitlines()
    assert [line[:11] for line in told] == ["epoch   1/2", "epoch   2/2"] and all("min left" in line for line in told)
    assert "*" in told[0]
    left = tmp_path / "runs/task1"
    assert {path.name for path in left.iterdir()} == {"settings.json", "history.json", "checkpoint.pth", "best.pth",
                                                      "thumbnails.png"}
    recorded = json.loads((left / "settings.json").read_text())["settings"]
    assert recorded == {"EPOCHS": 2, "BATCH_SIZE": 2, "FLIP": 0.5, "MODEL": "model_task1.pth"}
    history = json.loads((left / "history.json").read_text())
    assert [sum(map(sum, record["confusion"])) for record in history] == [PIXELS, PIXELS]
    assert all(record["seconds_per_image"] > 0 for record in history) and run.history == history
    saved = torch.load("model_task1.pth", weights_only=True)
    assert saved.keys() == made.network.state_dict().keys()
    assert run.best_network() is made.network
    assert all(torch.equal(saved[name], tensor) for name, tensor in made.network.state_dict().items())


def test_a_dataloader_will_do(sample):
    made = prepared(sample)
    made.train = DataLoader(SegmentationDataset(sample, "train"), 2, shuffle=True)
    made.val = DataLoader(SegmentationDataset(sample, "val"), 2)
    assert len(fit(made, start(made, scheduler=None)).history) == 2


def test_the_average_follows_each_step_and_is_what_is_kept_and_deployed(sample, tmp_path):
    made = prepared(sample, task=2)
    average, steps, deployed = average_weights(made.network, 3), [], []

    def deploy(network: nn.Module) -> nn.Module:
        deployed.append(network)
        return nn.Sequential(network)

    run = start(made, ema=average, deploy=deploy)
    for _ in run.epochs():
        meters = run.meters()
        for data, target in run.training(made.train):
            meters["loss"].update(step(made, data, target)[0], len(data))
            steps.append(int(average.n_averaged))
        validated = run.meters()
        for data, target in run.validating(made.val):
            validated["metric"].update(target, average(data).max(1)[1])
        better = run.finish_epoch(meters, validated)
    assert steps == [0, 1, 2, 3] and average.n_averaged == 4
    assert deployed and all(network is average.module for network in deployed)
    assert list(torch.load("model_task2.pth", weights_only=True)) == ["0.weight", "0.bias"]
    best = torch.load(tmp_path / "runs/task2/best.pth", weights_only=True)
    assert best["weight"].shape == (8, 3, 1, 1)
    assert torch.equal(best["weight"], average.module.weight) == better


def test_nan_stops_the_training_within_the_epoch(sample):
    made = prepared(sample)
    run = start(made)
    seen = 0
    with pytest.raises(LabError, match="NaN or infinity after step 1 of epoch 1: lower LEARNING_RATE"):
        for _ in run.epochs():
            for data, _target in run.training(made.train):
                seen += len(data)
                made.network.weight.data.fill_(torch.nan)
    assert seen == 2 and not run.history
    meters = run.meters()
    meters["loss"].update(float("nan"), 1)
    with pytest.raises(LabError, match="expected a finite loss, found nan in epoch 1"):
        run.finish_epoch(meters, run.meters())


def refused(made: SimpleNamespace, words: str, **more: object) -> None:
    with pytest.raises(LabError, match=words) as caught:
        start(made, **more)
    assert "\n" not in str(caught.value)


def test_a_second_training_of_the_same_parts_is_refused_or_resumed(sample, tmp_path):
    made = prepared(sample)
    fit(made, start(made))
    before = (tmp_path / "runs/task1/history.json").read_bytes()
    refused(made, "expected a new network, found one that has trained before: run again from the cell that builds")
    made.names["RESUME"] = True  # the settings cell alone was run
    assert len(fit(made, start(made)).history) == 2
    assert (tmp_path / "runs/task1/history.json").read_bytes() == before


def test_a_used_optimizer_or_scheduler_is_refused(sample):
    made = prepared(sample)
    made.scheduler.step()
    refused(made, "expected a new scheduler, found one that has trained before")
    made = prepared(sample)
    made.optimizer = torch.optim.AdamW(made.network.parameters())
    step(made, *made.train.take([0]))
    refused(made, "expected a new optimizer", scheduler=None)


def test_parts_that_do_not_belong_together_are_refused(sample):
    made = prepared(sample)
    refused(made, "found one of another network: .* the cell that makes the optimizer",
            optimizer=torch.optim.SGD(nn.Conv2d(3, 8, 1).parameters(), 0.1), scheduler=None)
    other = torch.optim.SGD(made.network.parameters(), 0.1)
    refused(made, "expected a scheduler of this optimizer", scheduler=one_cycle(other, 4))
    made.train.batch_size = 4
    refused(made, "expected training batches of BATCH_SIZE = 2, found 4")
    made = prepared(sample, recipe={"FLIP": 0.1})
    refused(made, "expected training batches of FLIP = 0.1, found 0.5: run again from the cell that makes them")
    made = prepared(sample)
    made.settings = Settings(TASKS[1], made.names)  # the cell below the settings was run again, and no other
    refused(made, "built with these settings, found an older one: run again from the cell that builds the network")


def test_settings_that_are_no_longer_those_of_the_cells_are_refused(sample):
    made = prepared(sample)
    made.names["EPOCHS"] = 9
    refused(made, "expected EPOCHS = 2, as the cells above used it, found 9 in the settings")
    made.names["EPOCHS"] = 2
    run = start(made)
    made.names["EPOCHS"] = 9
    with pytest.raises(LabError, match="found 9 in the settings"):
        next(run.epochs())


def test_typical_mistakes_in_a_loop_end_in_one_line(sample):
    made = prepared(sample)
    run = start(made)
    with pytest.raises(LabError, match=r"expected `for data, target, \*soft in data_loader`"), run.advice():
        _data, _target = (1, 2, 3)
    with pytest.raises(LabError, match="one step of the scheduler after each step"), run.advice():
        for _ in range(9):
            made.optimizer.step()
            made.scheduler.step()
    with pytest.raises(LabError, match=r"pass ignore_index=IGNORE to the criterion"), run.advice():
        nn.CrossEntropyLoss()(torch.zeros(1, 8, 2, 2), torch.full((1, 2, 2), IGNORE))
    with pytest.raises(LabError, match=r"device-side assert triggered\): 255 stands for"), run.advice():
        raise RuntimeError("CUDA error: device-side assert triggered\nmore")
    with pytest.raises(RuntimeError, match="another"), run.advice():
        raise RuntimeError("another")
    with pytest.raises(ValueError, match="something else"), run.advice():
        raise ValueError("something else")


def test_another_network_leaves_the_runs_and_weights_of_the_task_alone(sample, tmp_path, capsys):
    made = prepared(sample, NETWORK="gallery.sinet:SINet")
    run = start(made)
    assert (run.name, str(run.model), run.folder.folder) == ("task1-SINet", "model_task1-SINet.pth",
                                                             tmp_path / "runs/task1-SINet")
    assert "this run is called task1-SINet, its weights go to model_task1-SINet.pth" in capsys.readouterr().out


def test_without_the_best_weights_that_is_said(sample, tmp_path):
    made = prepared(sample)
    run = start(made)
    with pytest.raises(LabError, match=r"best epoch's weights in .*best\.pth, found none .* restart the kernel"):
        run.best_network()
    fit(made, run)
    torch.save({"other": torch.zeros(1)}, tmp_path / "runs/task1/best.pth")
    with pytest.raises(LabError, match="found none that this network can load") as caught:
        run.best_network()
    assert "\n" not in str(caught.value)
