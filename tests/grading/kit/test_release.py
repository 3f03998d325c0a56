"""The starter kit: what is in it and what is not, stubs that speak, and what stops a release.

Tests that change the repository change a copy of the files that the kit is made from.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from conftest import ROOT, load_file, run_command

from grading.course import read_course
from grading.kit import release as release_module
from grading.kit.archive import FORMATS, TIME, unpack_archive, write_archive
from grading.kit.checks import read_texts
from grading.kit.contents import ROOMS, STUDENTS, kit_files
from grading.kit.leaks import OPEN, Text, _words, find_leaks, telling_lines
from grading.kit.release import release, summary
from handin.fixed import changed_files
from utils.lab import TASKS, LabError

NETWORKS = {number: task.network_file.relative_to(ROOT).as_posix() for number, task in TASKS.items()}


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A copy of what the kit is made from, no git checkout; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("sources")
    for path in kit_files(ROOT).values():
        place = folder / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return folder


@pytest.fixture
def repository(sources, tmp_path) -> Path:
    """Another copy, to be changed."""
    return Path(shutil.copytree(sources, tmp_path / "repository"))


@pytest.fixture(scope="module")
def kit(sources, tmp_path_factory) -> SimpleNamespace:
    """The clean kit: the folder `root` it unpacks to, the solutions' `blocks`, and its `texts`."""
    folder = tmp_path_factory.mktemp("release")
    made = release(sources, folder / "DL_Lab5.tar", trial=False)
    unpack_archive(made.out, "tar", folder)
    root = folder / "DL_Lab5"
    return SimpleNamespace(root=root, blocks=[block for block in made.blocks if block.task],
                           texts=list(read_texts(root, sorted(tree(root)))))


# What is in it

def test_the_kit_holds_the_students_part_and_nothing_else(kit, sources):
    names = list(tree(kit.root))
    pages = [path.name for path in (sources / "grading/kit").glob("*.md")]
    assert sorted(path.name for path in kit.root.parent.iterdir()) == ["DL_Lab5", "DL_Lab5.tar"]
    assert {name for name in names if "/" not in name} == {
        *pages, "LICENSE", "Makefile", "tasks.py", "pyproject.toml", "requirements.txt", "requirements-dev.txt",
        "requirements.lock", "requirements-torch.lock", ".gitignore", "Lab05_segmentation_task1.ipynb",
        "Lab05_segmentation_task2.ipynb", "test_task1.py", "test_task2.py"}
    assert {name.split("/")[0] for name in names if "/" in name} == {
        "utils", "sample", "dataset", "training", "frontier", "figures", "handin", "tests", "network", "network2",
        "data", "docs"}
    assert all(name.startswith("tests/student/") for name in names if name.startswith("tests/"))
    for room in (*ROOMS, "network", "network2"):  # nothing was forgotten, nothing else was changed
        for path in (sources / room).rglob("*.py"):
            name = path.relative_to(sources).as_posix()
            assert ((kit.root / name).read_bytes() == path.read_bytes()) == (name not in STUDENTS)
    # Of data/ and docs/ only what the pages link to; every link leads to something.
    linked = set()
    for page in kit.root.rglob("*.md"):
        for link in re.findall(r"\]\(([^)]*)\)", page.read_text(encoding="utf-8")):
            if "://" not in link and not link.startswith("#"):
                linked.add((page.parent / link.split("#")[0]).resolve())
    assert linked and all(path.exists() for path in linked)
    assert {(kit.root / name).resolve() for name in names if name.startswith(("data/", "docs/"))} <= linked


def test_what_a_page_links_to_travels_and_a_link_to_nothing_is_refused(repository, tmp_path):
    readme = repository / "grading/kit/README.md"
    (repository / "docs/more.md").write_text("See [this](less.md#how) and [the data](../data/README.md).\n", "utf-8")
    (repository / "docs/less.md").write_text("[A room](../utils/), [the web](https://example.org/x.md)\n", "utf-8")
    (repository / "docs/other.md").write_text("nobody links here\n", "utf-8")
    text = readme.read_text(encoding="utf-8")
    append(readme, "\n[More](docs/more.md)\n")
    assert {"docs/more.md", "docs/less.md"} <= kit_files(repository).keys() and \
        "docs/other.md" not in kit_files(repository)
    (repository / "gallery").mkdir()
    (repository / "gallery/README.md").write_text("for teachers\n", encoding="utf-8")
    (tmp_path / "outside.md").write_text("", encoding="utf-8")
    for link, words in (("docs/none.md", "expected a file of the kit behind the link docs/none.md"),
                        ("../outside.md", "behind the link ../outside.md"),
                        ("gallery/README.md", "nothing of the teacher's in the kit")):
        readme.write_text(f"{text}\n[Link]({link})\n", encoding="utf-8")
        with pytest.raises(LabError, match=words):
            release(repository, tmp_path / "a.tar", trial=False)
    assert not (tmp_path / "a.tar").exists()


def test_the_pages_are_filled_with_the_courses_numbers(repository, tmp_path):
    (tmp_path / "mine.toml").write_text("[points]\nnaming = -7\nrank = 31\nreport = 19.5\n"
                                        "[deadline]\nat = 2026-12-24T23:59:00-05:00\n", encoding="utf-8")
    append(repository / "grading/kit/SMALLER.md", "{{ deadline }}, {{ points_naming }}, {{points_rank}}, "
                                                  "{{ points_report }}, {{ fom_offset }}\n")
    made = release(repository, tmp_path / "a.tar", trial=False, course=read_course(tmp_path / "mine.toml"))
    unpack_archive(made.out, "tar", tmp_path)
    pages = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "a").glob("*.md")}
    assert pages["SMALLER.md"].endswith("\n2026-12-24 23:59 (UTC-05:00), 7, 31, 19.5, 0.65\n")
    assert not [name for name, text in pages.items() if "{{" in text or "}}" in text]
    for wrong, words in (("{{ points_rnak }}", "'points_rnak' is undefined in grading/kit/SMALLER.md"),
                         ("{{ deadline", "in grading/kit/SMALLER.md")):
        append(repository / "grading/kit/SMALLER.md", wrong)
        with pytest.raises(LabError, match=words):
            release(repository, tmp_path / "b.tar", trial=False)
    (tmp_path / "mine.toml").write_text("[thresholds]\ntask2 = 0.5\n", encoding="utf-8")
    with pytest.raises(LabError, match=r"change them there"):
        release(repository, tmp_path / "b.tar", trial=False, course=read_course(tmp_path / "mine.toml"))


def test_the_teachers_lines_are_hidden(kit):
    makefile, tasks = ((kit.root / name).read_text(encoding="utf-8") for name in ("Makefile", "tasks.py"))
    requirements = (kit.root / "requirements-dev.txt").read_text(encoding="utf-8")
    assert "bench" not in makefile + tasks and "ruff" not in tasks and '"-m", "pytest"' in tasks
    assert "pytest" in requirements and "torchmetrics" not in requirements
    done = subprocess.run(["make", "-n", "test", "PYTHON=python3"], cwd=kit.root, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr


def test_notebooks_lose_outputs_and_metadata_and_keep_ids_and_tags(kit, repository, tmp_path):
    path = repository / TASKS[1].notebook
    book = nbformat.read(path, as_version=4)
    before = [(cell.id, cell.metadata.get("tags")) for cell in book.cells]
    book.metadata.update(authors=[{"name": "A. Teacher"}], kernelspec={
        "name": "my-venv", "display_name": "my venv", "language": "python"})
    for cell in book.cells:
        cell.metadata.update(collapsed=True, papermill={"duration": 1.0})
        if cell.cell_type == "code":
            cell.execution_count = 7
            cell.outputs = [nbformat.v4.new_output("stream", text="epoch 1")]
    nbformat.write(book, path)
    made = release(repository, tmp_path / "other.tar", trial=False)
    unpack_archive(made.out, "tar", tmp_path / "u")
    stripped = tmp_path / "u/other" / path.name
    assert stripped.read_bytes() == (kit.root / path.name).read_bytes()
    book = nbformat.read(stripped, as_version=4)
    assert [(cell.id, cell.metadata.get("tags")) for cell in book.cells] == before
    assert set(book.metadata) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_format_unpacks_to_the_same_and_is_reproducible(suffix, kit, repository, tmp_path):
    made = release(repository, tmp_path / f"Lab{suffix}", trial=False)
    unpack_archive(made.out, FORMATS[suffix], tmp_path / "u")
    assert tree(tmp_path / "u/Lab") == tree(kit.root)
    # The same files, written at another time to another place, give the same bytes.
    write_archive(tmp_path / "again", FORMATS[suffix], "Lab", [(name, kit.root / name) for name in tree(kit.root)])
    assert (tmp_path / "again").read_bytes() == made.out.read_bytes()
    if suffix == ".tar":
        with tarfile.open(made.out) as archive:
            about = {(member.uid, member.gid, member.uname, member.gname, member.mtime) for member in archive}
        assert about == {(0, 0, "", "", TIME)}


def test_the_manifest_fits_and_names_a_changed_file(kit, tmp_path):
    assert changed_files(kit.root) == []
    shutil.copytree(kit.root, tmp_path / "kit")
    append(tmp_path / "kit/utils/metric.py", "# better\n")
    (tmp_path / "kit/test_task1.py").unlink()
    assert sorted(changed_files(tmp_path / "kit")) == ["test_task1.py is missing", "utils/metric.py was changed"]


def test_git_says_what_travels_and_from_which_commit(repository, tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments], cwd=repository,
                       check=True, capture_output=True)
    git("init")
    git("add", "-A")
    git("commit", "-m", "all")
    (repository / "network/model.pth").write_bytes(b"weights")
    (repository / "utils/.ipynb_checkpoints").mkdir()
    (repository / "utils/.ipynb_checkpoints/lab.py").write_text("", encoding="utf-8")
    clean = release(repository, tmp_path / "a.tar", trial=False)
    assert len(clean.version) >= 7 and "dirty" not in clean.version
    (repository / "utils/extra.py").write_text('"""New."""\n', encoding="utf-8")
    dirty = release(repository, tmp_path / "b.tar", trial=False)
    assert dirty.version == f"{clean.version}-dirty" and dirty.files == clean.files + 1


def test_strays_do_not_travel_or_are_refused(kit, repository, tmp_path):
    for name in ("network/model_task1.pth", "network/old.py", "runs/task1/checkpoint.pth", "gallery/fcn.py",
                 "utils/.ipynb_checkpoints/lab.py", "utils/__pycache__/lab.pyc", "tests/test_secret.py"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_bytes(b"x")
    made = release(repository, tmp_path / "a.tar", trial=False)
    assert made.files == len(tree(kit.root))
    for name in ("utils/best.pth", "dataset/labels.npy", "handin/notes.txt"):
        (repository / name).write_bytes(b"x")
        with pytest.raises(LabError, match=rf"expected only .py files .*{name}"):
            release(repository, tmp_path / "b.tar", trial=False)
        (repository / name).unlink()
    (repository / "LICENSE").unlink()
    with pytest.raises(LabError, match="expected LICENSE of the kit"):
        release(repository, tmp_path / "b.tar", trial=False)
    assert not (tmp_path / "b.tar").exists()


# The stubs

def exercise(number: int, module, weights: Path) -> None:
    """What a student does with a network file: build, forward, load."""
    network = module.UNet(4) if number == 1 else module.LowComplexityNet()
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 32, 64))
    module.load_model(str(weights))


@pytest.mark.parametrize("number", NETWORKS)
def test_each_stub_of_a_network_file_fails_with_its_own_message(number, kit, weights, tmp_path):
    name = NETWORKS[number]
    blocks = [block for block in kit.blocks if block.file == name]
    stripped = (kit.root / name).read_text(encoding="utf-8")
    assert len(blocks) >= 8 and all(stripped.count(block.stub) == 1 for block in blocks)
    for index, missing in enumerate([*blocks, None]):
        text = stripped
        for block in blocks:
            text = text if block is missing else text.replace(block.stub, block.solution)
        file = tmp_path / f"network{index}.py"
        file.write_text(text, encoding="utf-8")
        if missing is None:
            exercise(number, load_file(file), weights[number])
        else:
            with pytest.raises(NotImplementedError) as caught:
                exercise(number, load_file(file), weights[number])
            assert str(caught.value) == missing.message == (
                f"task {number}, still to be written in {name}: {missing.name}")


RUN_CELLS = """
import json, sys
cells, parts = json.load(sys.stdin)
scope, met, index = {"__name__": "__main__"}, [], 0
first = min(cell for cell, _, _ in parts.values())
while index < len(cells):
    try:
        exec(compile(cells[index], f"cell {index + 1}", "exec"), scope)
        index += 1
    except NotImplementedError as error:
        cell, stub, solution = parts.pop(str(error))  # each message once
        met.append(str(error))
        assert stub in cells[cell]
        cells[cell] = cells[cell].replace(stub, solution)
        index = first  # a training run begins with a new network, optimizer and schedule
print(json.dumps(met))
"""


@pytest.mark.parametrize("number", TASKS)
def test_a_notebook_meets_each_stub_and_runs_once_they_are_written(number, kit, sample, tmp_path):
    shutil.copytree(kit.root, tmp_path / "kit")
    shutil.copy(ROOT / NETWORKS[number], tmp_path / "kit" / NETWORKS[number])
    book = nbformat.read(kit.root / TASKS[number].notebook, as_version=4)
    cells = ["" if cell.cell_type != "code" else
             "\n".join(line for line in cell.source.split("\n") if not line.startswith(("%", "!")))
             for cell in book.cells]
    settings = next(index for index, cell in enumerate(book.cells) if cell.metadata.get("tags") == ["parameters"])
    cells[settings] += (f"\nDATA, EPOCHS, BATCH_SIZE, WIDTH, DEVICE = {str(sample)!r}, 1, 2, 4, 'cpu'"
                        f"\nRUN, MODEL, TEACHER = {str(tmp_path / 'run')!r}, {str(tmp_path / 'model.pth')!r}, None")
    blocks = [block for block in kit.blocks if block.file == TASKS[number].notebook]
    parts = {block.message: (block.cell - 1, block.stub, block.solution) for block in blocks}
    done = subprocess.run([sys.executable, "-c", RUN_CELLS], input=json.dumps([cells, parts]), cwd=tmp_path / "kit",
                          capture_output=True, text=True, encoding="utf-8", check=False,
                          env={**os.environ, "PYTHONPATH": "", "MPLBACKEND": "Agg", "GOMP_SPINCOUNT": "3000"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [block.message for block in blocks]
    assert "epoch   1/1" in done.stdout and (tmp_path / "model.pth").exists()


@pytest.mark.parametrize(("name", "words"), [("network/network.py", "network/network.py:"), ("Makefile", "Makefile:"),
                                             ("utils/lab.py", "utils/lab.py:")])
def test_a_stray_marker_anywhere_stops_the_release(name, words, repository, tmp_path):
    append(repository / name, "### END SOLUTION\n")
    with pytest.raises(LabError, match=words):
        release(repository, tmp_path / "a.tar", trial=False)
    assert not (tmp_path / "a.tar").exists()


def test_two_parts_of_one_name_are_refused(repository, tmp_path):
    path = repository / "network/network.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("task 1: the layers of Up", "task 1: the layers of Down"), encoding="utf-8")
    with pytest.raises(LabError, match=r"'the layers of Down' twice in network/network\.py:46 and network/network\.py"):
        release(repository, tmp_path / "a.tar", trial=False)


# The leak check

def test_the_clean_kit_has_no_leak_and_the_reference_is_all_leaks(kit):
    lines = telling_lines(kit.blocks)
    assert len(lines) >= 100
    assert find_leaks(kit.blocks, kit.texts) == []
    reference = [Text(name, 0, (ROOT / name).read_text(encoding="utf-8")) for name in NETWORKS.values()]
    for number, task in TASKS.items():
        cells = nbformat.read(ROOT / task.notebook, as_version=4).cells
        reference += [Text(TASKS[number].notebook, index, cell.source) for index, cell in enumerate(cells, 1)]
    leaks = "\n".join(find_leaks(kit.blocks, reference))
    assert all(leaks.count(f" of {line.place}") for line in lines)


def test_every_open_line_stands_in_a_solution(kit):
    solutions = [_words(line) for block in kit.blocks for line in block.solution.split("\n")]
    assert all(_words(line) in solutions for line in OPEN), "OPEN lists a line that is no longer in use"


@pytest.mark.parametrize("planted", [
    "self.pool = nn.MaxPool2d(2)",
    "                self.pool  =  nn.MaxPool2d( 2 )     # halves",
    "# self.pool = nn.MaxPool2d(2)",
    "if True: self.pool = nn.MaxPool2d(2); print()",
    "self.pool = nn.MaxPool2d(\n    2)",
    "**Hint**: write `self.pool = nn.MaxPool2d(2)` first.",
    "x = F.interpolate(self.reduce(x), scale_factor=2, mode='bilinear', align_corners=False)",
    '"safe": Rung((16, 24, 48), (1, 2, 4), 1)',
    "nn.BatchNorm2d(out_channels)",
    "scheduler.step()",
])
def test_a_planted_line_is_found(planted, kit):
    leaks = find_leaks(kit.blocks, [Text("utils/a.py", 0, f"first = 1\n\n{planted}\nlast = 2\n")])
    assert leaks and all(leak.startswith("utils/a.py:3 holds ") for leak in leaks)
    assert find_leaks(kit.blocks, [Text("a", 0, "self.pool = nn.AvgPool2d(2)\nnn.ReLU()\nreturn y\n)\n")]) == []


def test_a_solutions_own_comment_is_found(kit):
    comments = [line.strip() for block in kit.blocks for line in block.solution.split("\n")
                if line.strip().startswith("#")]
    longest = max(comments, key=len)
    assert find_leaks(kit.blocks, [Text("README.md", 0, f"Think: {longest.lstrip('# ').replace(' ', '   ')}\n")])


@pytest.mark.parametrize("name", ["utils/metric.py", "README.md", "Lab05_segmentation_task2.ipynb"])
def test_a_leak_stops_the_release_and_is_named_with_both_places(name, repository, tmp_path):
    path = repository / ("grading/kit/README.md" if name == "README.md" else name)
    if name.endswith(".ipynb"):
        book = nbformat.read(path, as_version=4)
        book.cells[1].source += "\n\nTry `self.pool = nn.MaxPool2d(2)`."
        nbformat.write(book, path)
    else:
        append(path, "\n# self.pool = nn.MaxPool2d(2)\n")
    with pytest.raises(LabError, match=rf"{name}.* holds `self.pool = nn.MaxPool2d\(2\)` of network/network.py:47"):
        release(repository, tmp_path / "a.tar", trial=False)
    assert not (tmp_path / "a.tar").exists()


@pytest.mark.parametrize(("text", "words"), [
    ("# see /" + "home/teacher/lab\n", "path of a machine in the kit, found one in utils/metric.py"),
    ("x = (\n", "expected Python .* in utils/metric.py"),
    ("\ufffe", "expected Python .* in utils/metric.py"),
    ("def f():\n    from grading.records import clean\n", r"found grading\.records imported in utils/metric\.py:"),
    ("from dataset.nothing import x\n", r"found dataset\.nothing imported in utils/metric\.py:"),
])
def test_other_faults_stop_the_release(text, words, repository, tmp_path):
    append(repository / "utils/metric.py", text)
    with pytest.raises(LabError, match=words):
        release(repository, tmp_path / "a.tar", trial=False)


def test_a_text_that_is_not_utf8_is_refused(repository, tmp_path):
    (repository / "Makefile").write_bytes(b"# caf\xe9\n")
    with pytest.raises(LabError, match=r"expected a text in UTF-8, found.*Makefile"):
        release(repository, tmp_path / "a.tar", trial=False)


# The command

def test_the_command_tries_the_kit_and_prints_what_was_stripped(tmp_path):
    result = run_command("-m", "grading", "release", "--out", tmp_path / "DL_Lab5.zip", TMPDIR=str(tmp_path))
    assert result.status == 0, result.stderr
    for name, number in STUDENTS.items():
        assert f"{name}: " in result.stdout and f"task {number}: " in result.stdout
    for part in ("Makefile: 1 block", "tasks.py: 3 blocks", "hidden", "the layers of Down", "SHA-256", "passed",
                 "skipped"):
        assert part in result.stdout, part
    assert "failed" not in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["DL_Lab5.zip"]


def test_a_failing_trial_writes_nothing(repository, tmp_path, capfd):
    append(repository / "tests/student/test_setup.py", "\n\ndef test_more():\n    raise NotImplementedError('mine')\n")
    with pytest.raises(LabError, match="expected tests/student to pass in the kit, found '1 failed"):
        release(repository, tmp_path / "a.tar")
    assert "test_more" in capfd.readouterr().err
    assert not (tmp_path / "a.tar").exists()


def test_a_trial_without_pytest_says_how_to_get_it(repository, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LabError, match="`make test` installs it, or pass --no-trial"):
        release(repository, tmp_path / "a.tar")
    assert "not run" in summary(release(repository, tmp_path / "a.tar", trial=False))


@pytest.mark.parametrize("which", [1, 2])  # the scratch copy, and the archive itself
def test_a_full_disk_leaves_the_earlier_archive_whole(which, repository, tmp_path, monkeypatch):
    calls = []

    def write_archive(target, *arguments):
        calls.append(target)
        if len(calls) == which:
            target.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(target, *arguments)
    real = release_module.write_archive
    monkeypatch.setattr(release_module, "write_archive", write_archive)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.tar").write_bytes(b"earlier")
    with pytest.raises(LabError, match=r"No space left on device.*: free some space"):
        release(repository, tmp_path / "out/a.tar", trial=False)
    assert tree(tmp_path / "out") == {"a.tar": b"earlier"}
    assert not calls[0].parent.exists()
