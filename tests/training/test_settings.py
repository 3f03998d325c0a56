"""What a notebook's settings are, what is refused, and that a change which no cell has used is noticed."""
import pytest
import torch

from training.settings import Settings, check_settings, set_up
from utils.lab import IGNORE, TASKS, LabError


@pytest.mark.parametrize("wrong", [
    {"EPOCHS": 0}, {"BATCH_SIZE": 2.5}, {"WIDTH": -1}, {"SEED": "x"}, {"LEARNING_RATE": 0}, {"LEARNING_RATE": "fast"},
    {"EPOCHS": True}, {"COMPILE": "yes"}, {"COMPILE": 1}, {"BRANCHES": -1}, {"CALIBRATE": 1.5}, {"UNCROPPED": "half"},
    {"WARM_UP": -0.1}, {"EMA": None}, {"DISTILL": float("nan")}, {"WEIGHT_DECAY": -1}, {"LOSS_STRIDE": 3},
    {"LOSS_STRIDE": 0}, {"STORE": "int4"}])
def test_impossible_settings_name_themselves(wrong):
    with pytest.raises(LabError, match=next(iter(wrong))):
        check_settings(wrong)
    check_settings({"EPOCHS": 1, "BATCH_SIZE": 8, "WIDTH": 8, "SEED": 0, "LEARNING_RATE": 1e-3, "DATA": None})
    check_settings({"COMPILE": False, "BRANCHES": 0, "CALIBRATE": 1.0, "UNCROPPED": 0, "WARM_UP": 0.1, "EMA": 1.5,
                    "DISTILL": 0, "WEIGHT_DECAY": 1e-4, "LOSS_STRIDE": 4, "STORE": "int8"})


@pytest.mark.parametrize("wrong", [{"START": "a.pth"}, {"BRANCHES": 1}])
def test_settings_of_the_labs_network_are_refused_with_another(wrong):
    check_settings({**wrong, "NETWORK": None})
    with pytest.raises(LabError, match=f"expected {next(iter(wrong))} to be .* with another NETWORK"):
        check_settings({**wrong, "NETWORK": "gallery.sinet:SINet"})


def names() -> dict:
    """What stands in a notebook: settings, a recipe, an import of a constant, and a student's own names."""
    return {"EPOCHS": 3, "DATA": None, "RUN": "x", "RESUME": False, "IGNORE": IGNORE, "TASKS": TASKS, "N": 5,
            "Meter": 1, "network": torch, "ALPHA": 0.5, "CLASS": torch.nn.Module,
            "recipe": {"SCALE": (0.75, 1.75), "LOSS": {"dice": 1}}}


def test_settings_are_the_names_in_capitals_and_the_recipe():
    settings = Settings(TASKS[1], names())
    assert settings == {"EPOCHS": 3, "DATA": None, "RUN": "x", "ALPHA": 0.5, "SCALE": [0.75, 1.75], "LOSS": {"dice": 1}}


def test_a_change_that_no_cell_has_used_is_refused_by_name():
    notebook = names()
    settings = Settings(TASKS[1], notebook)
    settings["WIDTH"] = 8  # recorded, though the cell says nothing of it
    settings.check_unchanged()
    for change in ({"EPOCHS": 4}, {"recipe": {"SCALE": (0.75, 1.75), "LOSS": {"dice": 2}}}, {"ALPHA": 0.6}):
        before = dict(notebook)
        notebook.update(change)
        with pytest.raises(LabError, match="run again from the cell below the settings") as caught:
            settings.check_unchanged()
        assert "\n" not in str(caught.value)
        notebook.update(before)
    notebook["RESUME"] = True  # may be said at any time
    settings.check_unchanged()
    assert settings.resume and not Settings(TASKS[1], names()).resume


def test_a_recipe_that_is_no_dict_is_refused():
    with pytest.raises(LabError, match="expected recipe to be a dict of settings, found list"):
        Settings(TASKS[1], {"recipe": [1]})
    with pytest.raises(LabError, match="in the recipe"):
        Settings(TASKS[1], {"recipe": {"A": torch.nn.Module}})


def test_setting_up_seeds_torch_and_says_where_it_trains(capsys):
    settings, device, shard = set_up(2, {"SEED": 7, "DEVICE": "cpu", "recipe": {"PRECISION": "bfloat16"}})
    drawn = torch.rand(3)
    assert (device, shard, settings.task) == (torch.device("cpu"), (0, 1), TASKS[2])
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(7)))
    told = capsys.readouterr().out
    assert "CPU threads in bfloat16" in told and str(TASKS[2].miou) in told
