"""The rooms: which way imports point, and what is never committed."""
import ast
import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import ROOT

# A room may import the rooms named here and itself; network files import torch alone (see test_networks). Of training
# only frontier draws.
MAY_IMPORT = {"utils": set(), "sample": {"utils"}, "dataset": {"utils", "sample"}, "figures": {"utils", "dataset"},
              "training": {"utils", "dataset", "figures"},
              "frontier": {"utils", "dataset", "figures", "training", "network2"}, "handin": {"utils", "dataset"},
              "grading": {"handin", "utils", "dataset", "figures"},
              "gallery": {"utils", "dataset", "figures", "training", "frontier"},
              "benchmarks": {"utils", "sample", "dataset", "training", "grading", "network", "network2"}}
ROOMS = {*MAY_IMPORT, "network", "network2", "tests"}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True, check=False).stdout
    if not listed:
        pytest.skip("not a git checkout")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room):
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            rooms = {name.split(".")[0] for name in names} & ROOMS
            assert rooms <= MAY_IMPORT[room] | {room}, f"{path.relative_to(ROOT)} imports {rooms}"


def test_a_network_of_the_gallery_needs_torch_and_what_the_gallery_shares():
    networks = [path for path in (ROOT / "gallery").glob("*.py") if "def load_model" in path.read_text("utf-8")]
    assert len(networks) > 10
    for path in [*networks, ROOT / "gallery/resnet.py", ROOT / "gallery/common.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                known = name.split(".")[0] in ("torch", "numpy", *sys.stdlib_module_names)
                assert known or name in ("gallery.common", "gallery.resnet"), f"{path.name} imports {name}"


def test_no_two_classes_of_the_product_share_a_name():
    """Network files apart, which are handed in alone and name their blocks as the papers do."""
    found: dict[str, list[str]] = {}
    for room in set(MAY_IMPORT) - {"gallery"}:
        for path in (ROOT / room).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if not any(isinstance(node, ast.FunctionDef) and node.name == "load_model" for node in tree.body) \
                    or room == "utils":
                for node in tree.body:
                    if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                        found.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_nothing_heavy_and_no_machine_path_is_committed():
    for path in tracked():
        assert path.stat().st_size < 1_000_000, f"{path} is too large: data, weights and renderings stay out"
        assert path.suffix not in (".pth", ".npy", ".zip"), path
        if path.suffix in (".py", ".md", ".toml", ".txt", ".ipynb") and path != Path(__file__):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"(?<![\w.])/(root|home|Users|work)/", text), f"{path} names a machine's path"


def test_readme_and_architecture_name_every_room():
    for page in ("README.md", "docs/architecture.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for room in (*MAY_IMPORT, "network", "network2"):
            assert re.search(rf"\b{room}/", text), f"{room}/ is missing in {page}"


def test_lab_constants_agree_with_the_label_table():
    from utils.lab import NUM_CLASSES, TASKS, VOID
    from utils.labels_cat import CATEGORIES

    assert len(CATEGORIES) == NUM_CLASSES and CATEGORIES[VOID] == "void"
    for task in TASKS.values():
        assert task.network_file.is_file() and json.loads((ROOT / task.notebook).read_text(encoding="utf-8"))


def test_no_package_shadows_the_standard_library():
    """cityscapesscripts asks for the package `typing`, the backport for Python 2 and 3.4."""
    import typing

    assert Path(typing.__file__).is_relative_to(sysconfig.get_path("stdlib"))
