"""A receipt for each student: what was graded, with what, what came out and why; signed, so that a change is found.

    REPORT/receipts/<slug>.json      {"receipt": 1, "content": {...}, "hashes": {...}, "key": hex, "signature": hex}
    REPORT/receipts/public_key.pem   with which anybody verifies them

`hashes` has for each entry of `content` that is no table itself the SHA-256 of the canonical JSON (sorted keys, no
spaces, ASCII) of [its path, its value], so that a change is found by its name. `signature` is Ed25519's of the
canonical JSON of {"hashes": ..., "receipt": 1}.
"""
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from grading.course import Course
from grading.records import clean, digest, proof_paths
from grading.report.keys import public_pem
from grading.report.overrides import Override
from grading.report.points import LATE, NAMING, RANK, REPORT, TASK1, TASK2, Points
from utils.files import replacing, write_json
from utils.lab import TASKS, LabError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SCHEMA = 1
FOLDER = "receipts"
PUBLIC_KEY = "public_key.pem"
ENTRIES = {"receipt", "content", "hashes", "key", "signature"}
MOST = 8 << 20  # bytes of a receipt
SHOWN = 80      # characters of a value
# An item of the points' table -> the item of overrides.csv that asks for it.
ASKED_AS = {TASK1: "task 1", TASK2: "task 2", RANK: "", REPORT: "report", NAMING: "naming"}
OF_TASK = ("state", "why", "miou", "iou", "accuracy", "confusion", "masks", "flops", "size_kb", "fom", "costs")


def receipt_path(out: Path, slug: str) -> Path:
    return Path(out) / FOLDER / f"{slug}.json"


def make_contents(records: Sequence[dict], course: Course, points: Mapping[str, Points], rows: Sequence[Override]
                  ) -> dict[str, dict]:
    """What everybody's receipt says, by slug."""
    return {record["slug"]: make_content(record, course, points[record["slug"]],
                                         [row for row in rows if row.student == record["slug"]]) for record in records}


def make_content(record: dict, course: Course, points: Points, rows: Sequence[Override]) -> dict:
    """What a student's receipt says. rows: the student's of overrides.csv."""
    tasks = {str(number): _dict(record["tasks"][str(number)]) for number in TASKS}
    return clean({
        "student": record["student"], "slug": record["slug"], "graded": record.get("graded"),
        "files": record.get("files"), "submitted": record.get("submitted"),
        "networks": {number: {part: _dict(task.get("proof")).get(part) for part in ("graph", "tensors")}
                     for number, task in tasks.items()},
        "data": {"sha256": record.get("data"), "split": record.get("split")},
        "grader": _dict(record.get("versions")).get("lab"), "versions": record.get("versions"),
        "machine": {name: record.get(name) for name in ("device", "level", "threads", "limits")},
        "course": {"sha256": digest(asdict(course)), **asdict(course)},
        "tasks": {number: {name: task.get(name) for name in OF_TASK} for number, task in tasks.items()},
        "points": {item: {"points": value, "reason": reason(item, record, course, points, rows)}
                   for item, value in points.items.items()},
        "decisions": {row.item: "; ".join(text for text in (row.decided, row.note) if text)
                      for row in rows if row.decided}, "withdrawn": points.withdrawn,
        "total": points.total, "rank": points.rank, "ranked": points.ranked, "open": points.pending})


def reason(item: str, record: dict, course: Course, points: Points, rows: Sequence[Override]) -> str:
    """Why an item of the points is what it is."""
    row = next((row for row in rows if row.item == ASKED_AS.get(item, item)), None)
    if row is not None and row.decided:
        return f"decided: {row.decided}" + "".join(f"; {text}" for text in (row.reason, row.note) if text)
    if item in (TASK1, TASK2):
        number = (TASK1, TASK2).index(item) + 1
        task = record["tasks"][str(number)]
        return f"{task['state']}, mIoU {task.get('miou')}, asked for {course.thresholds[number]:g}"
    if item == RANK:
        return f"rank {points.rank} of {points.ranked}" if points.rank else "no rank"
    if item == NAMING:
        return "; ".join(map(str, record.get("naming") or ())) or "as asked for"
    if item == LATE:
        return f"handed in {record.get('submitted')}, {course.days_late(record.get('submitted'))} days late"
    return "none handed in" if item == REPORT and points.items[item] == 0 else "not decided yet"


def write_receipts(out: Path, contents: Mapping[str, dict], key: "Ed25519PrivateKey") -> None:
    """Writes the receipts by slug, and the public key; what is there and says the same is left as it is."""
    public = key.public_key()
    pem, path = public_pem(public), Path(out) / FOLDER / PUBLIC_KEY
    if not path.exists() or path.read_bytes() != pem:
        with replacing(path) as temporary:
            temporary.write_bytes(pem)
    for slug, content in contents.items():
        path = receipt_path(out, slug)
        made = sign(content, key)
        try:
            unchanged = path.exists() and read_receipt(path) == made
        except LabError:
            unchanged = False
        if not unchanged:
            write_json(path, made)


def sign(content: dict, key: "Ed25519PrivateKey") -> dict:
    """The receipt of this content."""
    hashes = hashes_of(content)
    return {"receipt": SCHEMA, "content": content, "hashes": hashes, "key": _raw(key.public_key()),
            "signature": key.sign(canonical({"hashes": hashes, "receipt": SCHEMA})).hex()}


def verify(receipt: dict, key: "Ed25519PublicKey") -> list[str]:
    """What was changed in a receipt since it was signed with the key that belongs to `key`, a line each."""
    from cryptography.exceptions import InvalidSignature

    found, now, hashes = [], hashes_of(receipt["content"]), receipt["hashes"]
    values = {" / ".join(path): value for path, value in _leaves(receipt["content"])}
    found += [f"{name} was changed: it says {json.dumps(values[name])[:SHOWN]} now" for name in now
              if name in hashes and now[name] != hashes[name]]
    found += [f"{name} was added" for name in now if name not in hashes]
    found += [f"{name} was removed" for name in hashes if name not in now]
    try:
        key.verify(bytes.fromhex(receipt["signature"]), canonical({"hashes": hashes, "receipt": receipt["receipt"]}))
        if receipt["key"] != _raw(key):
            found.append("key was changed: another key than this signed the receipt")
    except (InvalidSignature, ValueError):
        if receipt["key"] != _raw(key):
            found.append(f"the signature is of another key: expected {_raw(key)}, found {receipt['key'][:SHOWN]}")
        else:
            found.append("the signature does not fit: it, or the list of hashes, was changed")
    return found


def verify_kept(path: Path, content: dict) -> list[str]:
    """What was changed in the exported networks that are kept in a receipt's REPORT, if it lies in one."""
    out, found = path.absolute().parent.parent, []
    if path.absolute().parent.name != FOLDER or not (out / "records").is_dir():
        return []
    if content.get("slug") != path.stem:
        found.append(f"{path} is the receipt of another student, {content.get('slug')}")
    for number in TASKS:
        hashes = _dict(_dict(content.get("networks")).get(str(number)))
        for part, kept in zip(("graph", "tensors"), proof_paths(out, path.stem, number), strict=True):
            if hashes.get(part) is None:
                continue
            if not kept.is_file():
                found.append(f"{kept} is gone")
            elif hashlib.sha256(kept.read_bytes()).hexdigest() != hashes[part]:
                found.append(f"{kept} was changed")
    return found


def read_receipt(path: Path) -> dict:
    """The receipt in a file. Raises LabError for what is none; whether it is genuine is another question."""
    wrong = f"expected a receipt of schema {SCHEMA}"
    try:
        if path.stat().st_size > MOST:
            raise LabError(f"{wrong}, found more than {MOST >> 20} MB in {path}")
        receipt = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
        hashes_of(receipt["content"])
    except OSError as error:
        raise LabError(f"{wrong}, found {error.strerror} at {path}: `report` writes REPORT/{FOLDER}/") from None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise LabError(f"{wrong}, found {type(error).__name__} ({str(error)[:SHOWN]}) in {path}: it is damaged, or "
                       "another file") from None
    texts = [receipt.get("key"), receipt.get("signature"), *_dict(receipt.get("hashes")).values()]
    if (set(receipt) != ENTRIES or receipt["receipt"] != SCHEMA or not _dict(receipt["content"])
            or not _dict(receipt["hashes"]) or not all(isinstance(text, str) for text in texts)):
        others = ", ".join(sorted(ENTRIES ^ set(receipt))) or "others"
        raise LabError(f"{wrong}, found other entries ({others[:SHOWN]}) in {path}: something was added or removed")
    return receipt


def hashes_of(content: dict) -> dict[str, str]:
    """SHA-256 of each entry by its path, parted by " / "."""
    return {" / ".join(path): hashlib.sha256(canonical([path, value])).hexdigest() for path, value in _leaves(content)}


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(value, dict) and (value or not path):
        for key in value:
            yield from _leaves(value[key], (*path, key))
    else:
        yield path, value


def _once(pairs: list[tuple[str, object]]) -> dict:
    """An object whose names stand once: of two, readers would see one, and the signature mean the other."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name that stands twice")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _raw(key: "Ed25519PublicKey") -> str:
    return key.public_bytes_raw().hex()


def _dict(value: object) -> dict:
    return value if isinstance(value, dict) else {}
