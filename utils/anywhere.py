"""Makes a notebook run where it was opened without the lab's own environment: Colab, Kaggle, a bare kernel.

The first cell of both notebooks finds the lab and calls `prepare`. Beside the lab, in its own environment, it does
nothing.
"""
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from utils.lab import ROOT, LabError
from utils.terminal import wrong_python

TORCH = ("torch",)  # the host's own stays: its build fits the host's GPU


def prepare(lab: Path = ROOT) -> None:
    """Works in the folder `lab` from now on, and installs what requirements.txt names and this Python lacks.

    torch is never installed nor replaced. Says in at most two lines what it did. Raises LabError where torch is missing
    or too old, where `lab` has an environment of its own, and where pip fails.
    """
    lab = Path(lab).resolve()
    if lab != Path.cwd().resolve():
        os.chdir(lab)
        print(f"working in {lab}")
    missing = missing_packages(lab / "requirements.txt")
    if not missing:
        return
    names = [requirement.name for requirement in missing]
    own = lab / ".venv"
    torch = next((name for name in names if name in TORCH), None)
    if torch or (own.exists() and Path(sys.prefix).resolve() != own.resolve()):
        raise wrong_python(f"no {torch or names[0]} that fits")
    _install(missing)
    print(f"installed {', '.join(names)}; torch {importlib.metadata.version('torch')} stays")


def missing_packages(requirements: Path) -> list:
    """Those requirements, packaging.requirements.Requirement, that hold for this Python and are not met."""
    from packaging.requirements import Requirement  # ipykernel brings it

    missing = []
    for line in requirements.read_text(encoding="utf-8").splitlines():
        text = line.partition(" #")[0].strip()
        if not text or text.startswith(("#", "-")):
            continue
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found = None
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            missing.append(requirement)
    return missing


def _install(missing: list) -> None:
    """Installs packages beside the torch that is there. Raises LabError with pip's last line."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("".join(f"{name}=={importlib.metadata.version(name)}\n" for name in TORCH))
        done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                               "-c", str(constraints), *(f"{item.name}{item.specifier}" for item in missing)],
                              capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    importlib.invalidate_caches()
    if done.returncode:
        last = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise LabError(f"expected pip to install {', '.join(item.name for item in missing)}, found: {last}: install "
                       f"them with {sys.executable}, restart the kernel")
