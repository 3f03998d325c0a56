"""How a child is started at each level: its command line, its environment, its temporary folder."""
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from grading.trial.sandbox import bubblewrap
from grading.trial.sandbox.leftovers import mark, temporary_folder
from grading.trial.sandbox.levels import Level, Limits
from grading.trial.sandbox.pipes import Pipes
from grading.trial.sandbox.visible import STARTER, gpu_nodes, lab_code, python_paths, system_paths
from utils.lab import ROOT


@contextlib.contextmanager
def starting(level: Level, program: Path, arguments: Sequence[str], inputs: Mapping[str, Path], limits: Limits,
             pipes: Pipes, gpu: int | None, threads: int) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yields the command line of `python program arguments` at a level, and its environment (see sandbox.run).

    What they need on disk is there inside the with block, and gone afterwards.
    """
    settings = {"ready": pipes.ready.sink, "own namespace": level is Level.BUBBLEWRAP, "parent": 0, "confine": False,
                "scratch": str(bubblewrap.HOME), "strict": level is not Level.NONE,
                "mark": mark() if level is Level.BUBBLEWRAP else "",  # the other levels' children die by themselves
                "limits": {"file_size": limits.file_size, "cpu": limits.cpu, "processes": limits.processes,
                           "scratch": limits.scratch, "address_space": limits.memory if gpu is None else 0}}

    def python() -> list[str]:
        return [sys.executable, str(STARTER[0]), json.dumps(settings), str(program), *map(str, arguments)]

    if level is Level.BUBBLEWRAP:
        first = bubblewrap.command(program, inputs, limits.scratch, pipes.info.sink, gpu is not None)
        yield [*first, *python()], _environment(bubblewrap.HOME, bubblewrap.INPUTS, ROOT, pipes, gpu, threads)
        return
    with temporary_folder("lab-box-") as folder:
        # Links to what may be read: the folders where it really lies cannot be listed, which imports need.
        links = {folder / "in" / name: Path(path).resolve() for name, path in inputs.items()}
        links |= {folder / "lab" / path.relative_to(ROOT): path for path in lab_code()}
        (folder / "home").mkdir()
        for link, path in links.items():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
        nodes = gpu_nodes() if gpu is not None else []
        read = [folder / "in", folder / "lab", program, *links.values(), *system_paths(), *python_paths(),
                *([Path("/sys"), *nodes] if nodes else [])]
        settings |= {"parent": os.getpid(), "confine": level is Level.NAMESPACES, "scratch": str(folder / "home"),
                     "read": [str(path) for path in read], "write": [str(path) for path in nodes]}
        yield python(), _environment(folder / "home", folder / "in", folder / "lab", pipes, gpu, threads)


def _environment(home: Path, inputs: Path, lab: Path, pipes: Pipes, gpu: int | None, threads: int) -> dict[str, str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # a batch system's choice, of which `gpu` counts
    card = "" if gpu is None else visible.split(",")[gpu].strip() if visible else str(gpu)
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(lab), "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "3000"),
            "LAB_INPUTS": str(inputs), "LAB_ANSWER_FD": str(pipes.answer.sink), "LAB_REPORT_FD": str(pipes.report.sink),
            "CUDA_VISIBLE_DEVICES": card}
