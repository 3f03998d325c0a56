"""How a run is called, and where its best weights go. Nothing heavy is imported here: training.headless needs it."""
import re
from pathlib import Path

from utils.lab import Task


def run_name(run: object, network: str | None = None) -> str:
    """`run`; for another `network` under a task's own name that with the network's, "task2-SINet"."""
    name = str(run)  # of -p RUN 5 a number arrives
    if network and re.fullmatch(r"task\d", Path(name).name):
        name += "-" + str(network).partition("(")[0].rpartition(":")[2]
    return name


def weights_file(task: Task, run: object) -> str:
    """Where a run's best weights go: to the file that is handed in for task1 or task2, beside it for other names."""
    name, own = Path(str(run)).name, f"task{task.number}"
    return task.model_file if name == own else f"{Path(task.model_file).stem}-{name.removeprefix(own + '-')}.pth"
