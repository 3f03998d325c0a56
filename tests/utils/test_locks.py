"""The locks pin what requirements.txt asks for, with hashes; the images are built from them."""
import json
import re

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = ("requirements.lock", "requirements-torch.lock")


def pinned(name: str) -> dict[str, list[Requirement]]:
    """The requirements of a lock by package; each must be one version with at least one hash."""
    packages: dict[str, list[Requirement]] = {}
    for text in (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        head, *hashes = text.split(" --hash=")
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64} *", part) for part in hashes), head
        requirement = Requirement(head)
        assert [item.operator for item in requirement.specifier] == ["=="]
        packages.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return packages


def test_each_requirement_is_pinned_for_every_python_within_its_bounds():
    locks = {**pinned(LOCKS[0]), **pinned(LOCKS[1])}
    assert {"torch", "torchvision"} <= set(pinned(LOCKS[1])) and "torch" not in pinned(LOCKS[0])
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            wanted = Requirement(line.partition(" #")[0])
            for pin in locks[canonicalize_name(wanted.name)]:
                (version,) = (item.version for item in pin.specifier)
                assert wanted.specifier.contains(version), line
            for python in ("3.10", "3.11", "3.12", "3.13", "3.14"):
                here = {"python_version": python, "python_full_version": f"{python}.1"}
                fits = [pin for pin in locks[canonicalize_name(wanted.name)]
                        if not pin.marker or pin.marker.evaluate(here)]
                assert len(fits) == (1 if not wanted.marker or wanted.marker.evaluate(here) else len(fits)), line


def test_no_lock_and_no_image_names_a_host():
    for name in (*LOCKS, "containers/Dockerfile", "containers/lab.def"):
        assert not re.search(r"https?://|--index|--extra|--find-links", (ROOT / name).read_text(encoding="utf-8")), name


@pytest.mark.parametrize("name", ["containers/Dockerfile", "containers/lab.def", ".devcontainer/devcontainer.json"])
def test_images_are_made_of_files_that_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".json"):
        build = json.loads(text)["build"]
        assert (ROOT / ".devcontainer" / build["dockerfile"]).is_file()
        assert (ROOT / ".devcontainer" / build["context"]).resolve() == ROOT
        return
    assert "make setup LOCKED=1" in text and "bubblewrap" in text and "fonts-noto-cjk" in text
    for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / file).exists() for file in line.split()), line
    if name.endswith("Dockerfile"):
        known = {"FROM", "RUN", "WORKDIR", "COPY", "CMD"}
        joined = re.sub(r"\\\n", " ", text)
        assert {line.split()[0] for line in joined.splitlines() if line and not line.startswith("#")} <= known
