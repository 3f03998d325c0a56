"""The fingerprint of a weights file: enough to tell copies and near copies, without unpickling anything.

torch.save writes a zip with a member for each storage, which holds its bytes as they are in memory, and one pickle
program that makes tensors of them. The bytes are read here as they are. Of the program only the storages' types are
taken, from its opcodes (pickletools), which are listed and never run. All reading is bounded, whatever the file claims.
"""
import functools
import hashlib
import pickletools
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from handin.unpack import open_zip

SCHEMA = 1
MOST_BYTES = 1 << 30   # read of one file, unpacked
MOST_STORAGES = 4096
MOST_PICKLE = 16 << 20
PROJECTED = 1 << 22    # elements at the beginning of a storage that its projection is made of
DIMENSIONS = 32        # of a projection: independent weights get a cosine of 0 +- 0.18
SMALLEST = 64          # elements; smaller storages (a few biases) say nothing about where they come from
CHUNK = 1 << 20
TYPES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8", "BFloat16Storage": "bf16",
         "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
         "BoolStorage": "u1"}


def fingerprint(weights: Path) -> dict:
    """The fingerprint of the file in `weights`, as JSON's types; never raises for what is in the file.

    {"schema": 1, "why": "" or why it is empty or cut short, "storages": [{"sha256", "count": elements, "type",
    "projection": 32 floats}]}: one entry a storage, in the file's order. Left out are storages of fewer than 64
    elements, and those whose elements are all equal (fresh biases, untrained batch norms). The projection is a fixed
    random one of the elements less their mean: the cosine of two projections estimates that of the two storages.
    """
    found: dict = {"schema": SCHEMA, "why": "", "storages": []}
    try:
        with open_zip(weights) as archive:
            members = archive.infolist()
            types = _types(archive, members)
            storages = [member for member in members if re.search(r"(^|/)data/[^/]+$", member.filename)]
            left = MOST_BYTES
            if len(storages) > MOST_STORAGES:
                found["why"] = f"only the first {MOST_STORAGES} of {len(storages)} storages were read"
            for member in storages[:MOST_STORAGES]:
                entry, read = _storage(archive, member, types.get(Path(member.filename).name, "<f4"), left)
                left -= read
                if left <= 0:
                    found["why"] = f"only the first {MOST_BYTES >> 20} MB were read"
                    break
                if entry:
                    found["storages"].append(entry)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError,
            OverflowError) as error:  # what zipfile is known to raise for damaged, packed and encrypted files
        found["why"] = f"expected what torch.save writes, found {type(error).__name__}: {str(error)[:200]}"
    return found


def _storage(archive: zipfile.ZipFile, member: zipfile.ZipInfo, kind: str, limit: int) -> tuple[dict | None, int]:
    """The entry of a storage, None for one that says nothing, and how many bytes were read (at most about `limit`)."""
    width = 2 if kind == "bf16" else np.dtype(kind).itemsize
    digest, head, size = hashlib.sha256(), bytearray(), 0
    with archive.open(member) as file:
        while size < limit and (chunk := file.read(CHUNK)):
            digest.update(chunk)
            head += chunk[:max(0, PROJECTED * width - len(head))]
            size += len(chunk)
    count = size // width
    if count < SMALLEST:
        return None, size
    values = _values(bytes(head[:len(head) // width * width]), kind)
    if size <= PROJECTED * width and (values == values[0]).all():
        return None, size
    projection = [float(f"{value:.5g}") for value in _project(values)]
    return {"sha256": digest.hexdigest(), "count": count, "type": kind.lstrip("<"), "projection": projection}, size


def _values(data: bytes, kind: str) -> np.ndarray:
    """The elements as float64, NaN as 0 and infinities as large numbers."""
    if kind == "bf16":  # the upper half of a float32
        values = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    else:
        values = np.frombuffer(data, kind)
    with np.errstate(all="ignore"):
        return np.clip(np.nan_to_num(values.astype(np.float64)), -1e30, 1e30)


def _project(values: np.ndarray) -> np.ndarray:
    """(DIMENSIONS,) sums of every 32nd element, each with a sign that is random and the same for everyone."""
    values = values - values.mean()
    signed = values * _signs()[:len(values)]
    return np.pad(signed, (0, -len(signed) % DIMENSIONS)).reshape(-1, DIMENSIONS).sum(0)


@functools.lru_cache(maxsize=1)
def _signs() -> np.ndarray:
    """int8 (PROJECTED,) of -1 and 1. From a hash, so that they are the same with every version of numpy."""
    bits = np.unpackbits(np.frombuffer(hashlib.shake_128(b"segmentation lab").digest(PROJECTED // 8), np.uint8))
    return bits.astype(np.int8) * 2 - 1


def _types(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> dict[str, str]:
    """numpy's type of each storage by its key, as far as the pickle program tells."""
    program = next((member for member in members if member.filename.endswith("data.pkl")), None)
    if program is None or program.file_size > MOST_PICKLE:
        return {}
    with archive.open(program) as file:
        code = file.read(MOST_PICKLE)
    types: dict[str, str] = {}
    memo: dict[int, object] = {}
    pushed: list = [None] * 5
    try:
        for opcode, argument, _ in pickletools.genops(code):
            if opcode.name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = pushed[-1]
            elif opcode.name in ("BINGET", "LONG_BINGET"):
                pushed = pushed[-4:] + [memo.get(argument)]
            elif opcode.name == "BINPERSID":  # takes the tuple ("storage", type, key, device, number of elements)
                _, storage, key, _, _ = pushed
                name = str(storage).split(" ")[-1]
                if isinstance(key, str) and name in TYPES:
                    types[key] = TYPES[name]
            elif argument is not None:
                pushed = pushed[-4:] + [argument]
    except (ValueError, IndexError, KeyError, TypeError, UnicodeDecodeError):
        pass  # a damaged program: the other storages count as float32
    return types
