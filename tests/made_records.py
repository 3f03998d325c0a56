"""A made-up class as `grade` would leave it: every state, missing tasks, flags, and names and logs that attack a page.

    python tests/made_records.py REPORT      writes the records, sources and images into a folder, to look at

The figures follow from a fixed seed and from the lab's formula, written out here again.
"""
import hashlib
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import numpy as np
from PIL import Image

from utils.lab import FOM_OFFSET, ROOT, TASKS

ATTACK = '<script>window.hacked = 1; document.title = "hacked"</script><img src=x onerror="window.hacked = 2">'
LOG = ("\x1b[31mred\x1b[0m and \x1b]0;title\x07plain\r\n" + ATTACK +
       "\n</pre></details><script>window.hacked = 3</script>\n"
       "epoch 1\repoch 2\n--> ]]> &lt;b&gt; \u202etxt.exe\x00\x07\n" + "x" * 400 + "\nFinal IoU = 0.999999\n")
STATES = ("MISSING_FILE", "IMPORT_ERROR", "LOAD_ERROR", "SHAPE_ERROR", "TIMEOUT", "OUT_OF_MEMORY", "CRASH")
# Names of people; what is odd about them is meant to be.
PEOPLE = ("Ada Lovelace", "Müller, Jürgen", "王小明", "Ngô Bảo Châu", "Åse Ødegård", "محمد الخوارزمي",
          "\u0418\u0432\u0430\u043d", "\N{ROCKET} Zoë \N{ROCKET}", ATTACK, "Very " + "long " * 60 + "name",
          '=HYPERLINK("http://example.org")', "user\u202egnp.exe", "Dana Scully", "Grace Hopper", "Katherine Johnson",
          "Emmy Noether", "Sofja Kowalewskaja", "Maryam Mirzakhani", "Chien-Shiung Wu", "Rosalind Franklin",
          "Barbara Liskov", "Radia Perlman", "Hedy Lamarr", "Vera Rubin", "Lise Meitner", "Tu Youyou")


def fom(flops: int, size_kb: float, miou: float) -> float | None:
    return float(flops) ** 2 * size_kb**2 / (miou - FOM_OFFSET) if miou >= TASKS[2].miou else None


def made_task(task: int, rng: random.Random, miou: float, flops: int, size_kb: float, state: str = "OK") -> dict:
    """The record of a task with a score."""
    iou = [min(0.99, max(0.0, miou + rng.uniform(-0.25, 0.2))) for _ in range(8)]
    confusion = [[int(2e6 * (iou[row] if row == column else (1 - iou[row]) / 7 * rng.uniform(0.2, 1.8)))
                  for column in range(8)] for row in range(8)]
    names = ["stem.conv", *(f"stage{stage}.{block}.conv_{kind}" for stage in (4, 8, 16) for block in range(3)
                            for kind in ("dw", "pw")), "head"]
    layers = [{"name": name, "type": "Conv2d", "output": [1, 32, 64, 128], "parameters": 288 + 31 * index,
               "macs": flops // len(names), "share": 1 / len(names)} for index, name in enumerate(names)]
    return {"state": state, "why": "", "miou": miou, "iou": iou, "confusion": confusion, "accuracy": miou + 0.15,
            "flops": flops, "size_kb": size_kb, "fom": fom(flops, size_kb, miou) if task == 2 else None,
            "costs": {"macs": flops, "least_macs": flops, "elements": flops // 9, "arithmetic": flops // 40,
                      "bytes": int(size_kb * 1024), "number_bytes": 96, "nodes": 61, "unused": 0},
            "flags": [], "layers": layers, "parameters": int(size_kb * 256), "images": [], "log": "loading\nready\n",
            "seconds": rng.uniform(5, 40), "level": "bubblewrap", "device": "cpu"}


def failed_task(state: str, why: str, log: str = "") -> dict:
    return {"state": state, "why": why, "miou": None, "iou": [], "confusion": None, "accuracy": None, "flops": None,
            "size_kb": None, "fom": None, "costs": None, "flags": [], "layers": [], "parameters": None, "images": [],
            "log": log, "seconds": 3.0, "level": "bubblewrap", "device": "cpu"}


def made_record(index: int, rng: random.Random) -> dict:
    student = f"3135{index:04d}"
    person = PEOPLE[index % len(PEOPLE)]
    kinds = ("notebook 1", "notebook 2", "network 1", "network 2", "weights 1", "weights 2", "report")
    files = {kind: {"path": f"{kind.replace(' ', '_')}_{student}", "sha256": hashlib.sha256(
        f"{kind}{index}".encode()).hexdigest(), "bytes": 1000 + index} for kind in kinds}
    miou1, miou2 = rng.uniform(0.68, 0.82), rng.uniform(0.64, 0.78)
    return {"schema": 1, "student": student, "key": "0" * 64,
            "folder": f"{person}_{100 + index}_assignsubmission_file_", "files": files, "missing": [], "naming": [],
            "extra": [],
            "findings": [{"level": "OK", "subject": "report", "text": "a PDF of 812 KB"}],
            "tasks": {"1": made_task(1, rng, miou1, int(10 ** rng.uniform(9, 10.6)), 10 ** rng.uniform(3, 4.4)),
                      "2": made_task(2, rng, miou2, int(10 ** rng.uniform(7.4, 9.2)), 10 ** rng.uniform(1.9, 3.4))},
            "graded": f"2026-11-21T10:{index % 60:02d}:00Z", "seconds": 41.5,
            "versions": {"python": "3.11.7", "torch": "2.15.0", "thop": "0.1.1", "lab": "1.0"}}


def made_class() -> list[dict]:
    """26 records: 12 good, one for each other state, flagged, sloppy and hostile ones."""
    rng = random.Random(5)
    records = [made_record(index, rng) for index in range(len(PEOPLE))]
    for place, state in enumerate(STATES, 13):
        records[place]["tasks"]["2"] = failed_task(state, f"expected a network, found {state}: see the log", LOG)
    records[8]["student"] = ATTACK  # no number in the names: the folder's name stands for it
    records[8]["folder"] = ATTACK
    for record in (records[8], records[12]):
        record["tasks"]["2"] |= {"state": "FLAGGED", "log": LOG, "why": "a person must decide " + ATTACK, "flags": [
            {"code": "SUBCLASS", "text": f"network_task2.py:12: class {ATTACK}(nn.Conv2d)"},
            {"code": "COUNTERS", "text": "thop counts 41,959,424 MACs, the dispatcher 902,112,000"}]}
        record["tasks"]["2"]["layers"][0] |= {"name": ATTACK, "type": "\u202eConv"}
        record["findings"].append({"level": "WARN", "subject": "rules", "text": f"expected no download: {ATTACK}"})
        record["files"]["network 2"]["path"] = f"../{ATTACK}.py"
        record["extra"] = [ATTACK, "random.py"]
    records[11]["tasks"]["2"] |= {"state": "COST_UNVERIFIED", "flags": [
        {"code": "COST_UNVERIFIED", "text": "its cost could not be proved: a loop over the pixels"}]}
    records[20]["naming"] = ["expected network_task1.py, found Network Task1 (1).py: rename it"]
    records[21]["naming"] = ["expected the seven files at the top, found some in Lab 5/final/: move them up"]
    records[22]["missing"] = ["report", "notebook 2"]
    records[23]["missing"] = ["network 2", "weights 2"]
    records[23]["tasks"]["2"] = failed_task("MISSING_FILE", "no network_task2.py")
    records[24]["tasks"] = {number: failed_task("CRASH", "expected a zip, found a damaged one") for number in "12"}
    records[25]["tasks"]["2"] |= {"flops": 3 * 10**12, "size_kb": 4e6, "fom": fom(3 * 10**12, 4e6, 0.71), "miou": 0.61}
    records[25]["tasks"]["2"]["fom"] = None
    return records


def slug_of(record: dict) -> str:
    return record["student"] if record["student"].isdigit() else "script-" + "8a" * 4


def write_class(out: Path) -> list[dict]:
    """Writes made_class() into the report folder `out`, with sources and images; returns the records."""
    records = made_class()
    for index, record in enumerate(records):
        slug = slug_of(record)
        for task in (1, 2):
            found = record["tasks"][str(task)]
            if found["miou"] is None:
                continue
            source = out / "sources" / slug / f"network_task{task}.py"
            source.parent.mkdir(parents=True, exist_ok=True)
            text = f"import torch\n\n\ndef load_model(path):\n    return {index}\n"
            if index in (2, 3) and task == 1:  # two that are alike; the second with other names, and a script in it
                text = (ROOT / "network/network.py").read_text(encoding="utf-8")
                if index == 3:
                    text = text.replace("DoubleConv", "Twice").replace("stem", "begin") + f"# {ATTACK}\n"
            source.write_text(text, encoding="utf-8")
        if index in (0, 8):
            image = out / "images" / slug / "task2_0.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            shades = np.random.RandomState(index).randint(60, 220, (10, 60, 3)).astype(np.uint8)
            Image.fromarray(shades).resize((1200, 200), Image.Resampling.BICUBIC).save(image)
            record["tasks"]["2"]["images"] = [
                {"name": "city_000001_000019", "miou": 0.31, "file": f"images/{slug}/task2_0.png"},
                {"name": ATTACK, "miou": 0.33, "file": "../../etc/passwd"},
                {"name": "x", "miou": 0.4, "file": "javascript:window.hacked=4"}]
        path = out / "records" / f"{slug}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    return records


if __name__ == "__main__":
    write_class(Path(sys.argv[1]))
