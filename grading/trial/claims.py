"""What a sandboxed child says of itself: lines of JSON that anybody there may have written, not trusted.

A claim that is not of the agreed type and within its bounds is dropped; what is read never raises. The lines come in
the order of the program's stages, each once: others mean that the submission wrote to the channel itself.
"""
import json
import math
import re
from dataclasses import dataclass, field

# Of each of inside.py's programs, in order; it has a copy of its own, as it sees no other file of this folder.
STAGES = {"export": ("start", "import", "load", "output", "export"),
          "run": ("start", "import", "load", "output", "run"), "replay": ("start", "load", "run")}
LARGEST = 10**15
NUMBERS = {"flops", "held", "macs", "least_macs", "elements", "arithmetic", "wide", "bytes", "number_bytes", "nodes",
           "unused", "parameters"}
KINDS = ("unproved", "contract", "memory", "raised")
# Control characters, and those that turn the direction of a line or cannot be seen.
HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
MOST_ROWS, LONGEST, LONGEST_TEXT = 400, 80, 600


@dataclass
class Claims:
    """What was told of the stages in `order`. numbers: counts and bytes by name, 0..10^15. layers: a table's rows.

    stages: seconds by the name of each stage that is over. error: what ended it, "" where nothing did, with its kind
    (one of KINDS). foreign: lines that are not as agreed.
    """

    order: tuple[str, ...]
    stages: dict[str, float] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    layers: list[dict] = field(default_factory=list)
    error: str = ""
    kind: str = ""
    foreign: int = 0

    @property
    def stage(self) -> str:
        """The stage that it was in when it ended."""
        return self.order[min(len(self.stages), len(self.order) - 1)]

    @property
    def done(self) -> bool:
        return len(self.stages) == len(self.order)


def read_claims(report: bytes, order: tuple[str, ...]) -> Claims:
    """What came over the report channel, which may be any bytes, from a program of these stages."""
    claims = Claims(order)
    for line in report.split(b"\n"):
        if not line.strip():
            continue
        told = _parse(line)
        if told is None or claims.done or claims.error or told.get("stage") != claims.stage:
            claims.foreign += 1
            continue
        if isinstance(told.get("error"), str):
            claims.error = clean_text(told["error"], LONGEST_TEXT) or "an error without a message"
            claims.kind = told["kind"] if told.get("kind") in KINDS else "raised"
            continue
        claims.stages[claims.stage] = _fraction(told.get("seconds"), 1e6)
        claims.numbers |= {name: told[name] for name in NUMBERS & told.keys() if is_count(told[name])}
        if isinstance(told.get("layers"), list):
            claims.layers = [row for row in map(_row, told["layers"][:MOST_ROWS]) if row]
    return claims


def is_count(value: object) -> bool:
    """Whether it is a whole number in 0..10^15; True and False are none."""
    return type(value) is int and 0 <= value <= LARGEST


def clean_text(text: str, longest: int = LONGEST) -> str:
    """One line of at most `longest` characters that can be written as UTF-8 and shown on a terminal."""
    text = text[:4 * longest].encode("utf-8", "replace").decode("utf-8")
    text = " ".join(HIDDEN.sub(" ", text).split())
    return text if len(text) <= longest else text[:longest - 3] + "..."


def _parse(line: bytes) -> dict | None:
    try:
        told = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError, MemoryError):
        return None
    return told if isinstance(told, dict) else None


def _row(told: object) -> dict | None:
    if not isinstance(told, dict) or not all(isinstance(told.get(name), str) for name in ("name", "type")):
        return None
    if not all(is_count(told.get(name)) for name in ("parameters", "macs")):
        return None
    output = told.get("output")
    shape = [size for size in output[:6] if is_count(size)] if isinstance(output, list) else []
    return {"name": clean_text(told["name"]), "type": clean_text(told["type"]), "output": shape,
            "parameters": told["parameters"], "macs": told["macs"], "share": _fraction(told.get("share"), 1.0)}


def _fraction(value: object, largest: float) -> float:
    if type(value) not in (int, float) or not 0 <= value <= largest or not math.isfinite(value):
        return 0.0
    return float(value)
