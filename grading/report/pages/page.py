"""How the report's pages are made: Jinja2 with autoescape, text of unknown origin, and figures as text.

Jinja2 escapes all values that a template prints. Before that `text` cuts each of them and makes visible what could not
be seen, without being asked (it is the environment's `finalize`). The content security policy names the hashes of our
own style and script, so that nothing else could run or load even if one place forgot. For the same reason there is no
style attribute anywhere: widths are drawn in SVG, shades are classes.
"""
import base64
import functools
import hashlib
import math
import re
import unicodedata
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from utils.lab import TASKS
from utils.labels_cat import CATEGORIES, CATEGORY_COLORS

TEMPLATES = Path(__file__).with_name("templates")
TITLE = "Lab 05: semantic segmentation"
LONGEST = 300  # characters of a name
# ESC [ ... letter (colors, cursor), ESC ] ... BEL (titles, links), and the other two-character escapes.
TERMINAL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]{0,2000}(?:\x07|\x1b\\)|\x1b[@-Z\\^_]")
DIRECTION = re.compile("[\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")  # steers how a line is read
STATE_WORDS = {
    "OK": "scored", "MISSING_FILE": "file missing", "IMPORT_ERROR": "does not import",
    "LOAD_ERROR": "weights do not load", "SHAPE_ERROR": "wrong output", "TIMEOUT": "too slow",
    "OUT_OF_MEMORY": "out of memory", "CRASH": "crashed", "FLAGGED": "a person must decide",
    "COST_UNVERIFIED": "a person must decide about the rank"}


def render(template: str, script: bool = False, **values: object) -> str:
    """A page as HTML, made from a template and its values; `script` adds sorting and filtering of tables."""
    style, code = _asset("style.css"), _asset("tables.js") if script else ""
    policy = (f"default-src 'none'; img-src 'self' file:; style-src {_hash(style)}; "
              f"script-src {_hash(code) if code else repr('none')}; base-uri 'none'; form-action 'none'")
    return environment().get_template(template).render(
        style=Markup(style), script=Markup(code), policy=text(policy, 1000), **values)


def text(value: object, longest: int = LONGEST) -> Markup:
    """`value` as HTML text or attribute, one line: cut, what would not be seen made visible, escaped."""
    if isinstance(value, Markup):
        return value
    found = "" if value is None else str(value)
    return escape(_visible(found[:longest] + "…" if len(found) > longest else found))


def log_text(value: object) -> Markup:
    """A program's output as HTML text: without a terminal's colors, a new line for each carriage return."""
    found = TERMINAL.sub("", str(value or "")).replace("\r\n", "\n").replace("\r", "\n")
    return escape("\n".join(_visible(line) for line in found.split("\n")))


def number(value: object) -> float | None:
    """`value` if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def dicts(value: object) -> list[dict]:
    """The entries of a record's list that are what they should be."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def figure(value: object, form: str = "{:,.0f}", none: str = "") -> str:
    """A number as text, `none` for what is none."""
    found = number(value)
    return none if found is None else form.format(found).replace("-", "\N{MINUS SIGN}")


def points(value: object, none: str = "") -> str:
    """Points without needless decimals: 25, 28.5, -5."""
    return figure(value, "{:.2f}").rstrip("0").rstrip(".") or none


def si(value: object) -> str:
    """A count with its unit: 41.96 M, 1.52 G."""
    found = number(value)
    if found is None:
        return ""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(found) >= size:
            return f"{found / size:.4g} {unit}" if abs(found) < 1000 * size or unit == "T" else f"{found:.3g}"
    return f"{found:.4g}"


def kilobytes(value: object) -> str:
    """A size in KB, with a decimal where it says something."""
    found = number(value)
    return "" if found is None else f"{found:,.1f}" if abs(found) < 10_000 else f"{found:,.0f}"


def power(value: object, none: str = "") -> str:
    """A large number as 3.71e20, which sorts, copies and fits."""
    found = number(value)
    return none if found is None else f"{found:.3e}".replace("e+", "e")


def history_value(value: object) -> str:
    """A figure, points, a state or a decision, as a history shows it."""
    found = number(value)
    if found is None:
        return "none" if value is None else str(value)
    return power(found) if abs(found) >= 1e12 else f"{found:,.6f}".rstrip("0").rstrip(".")


def shape(value: object) -> str:
    """A layer's output without the images' axis: 32 x 64 x 128."""
    return " x ".join(map(str, value[1:])) if isinstance(value, (list, tuple)) else ""


def _visible(line: str) -> str:
    """Control characters as their numbers (\\x1b), and what steers the direction of writing by its number."""
    return line if line.isascii() and line.isprintable() else "".join(map(_seen, line))


def _seen(char: str) -> str:
    kind = unicodedata.category(char)
    if kind == "Cc" and char != "\t":
        return f"\\x{ord(char):02x}"
    if kind == "Cs":
        return "\ufffd"
    return f"[U+{ord(char):04X}]" if DIRECTION.match(char) else char


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


@functools.cache
def _asset(file: str) -> str:
    return (TEMPLATES / file).read_text(encoding="utf-8").strip()


@functools.cache
def environment(*more: Path) -> jinja2.Environment:
    """Where templates are found (in the folders `more` before the report's own), and what they may use."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader([*more, TEMPLATES]), autoescape=True, finalize=text,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(cut=text, log=log_text, number=number, figure=figure, points=points, si=si, power=power,
                               kilobytes=kilobytes, shape=shape, history=history_value)
    colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in CATEGORY_COLORS.tolist()]
    environment.globals.update(TITLE=TITLE, TASKS=TASKS, STATE_WORDS=STATE_WORDS,
                               CATEGORIES=list(zip(CATEGORIES, colors, strict=True)))
    return environment
