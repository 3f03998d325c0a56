"""The shell of every page of the report, and how text of unknown origin gets into one.

Whatever a student wrote (names of files and folders, layers, logs) goes through `text`, `log_text` or `link`; the
content security policy names the hashes of our own style and script, so that nothing else could run or load even if
one place forgot. For the same reason there is no style attribute anywhere: widths are drawn in SVG, shades are classes.
"""
import base64
import functools
import hashlib
import html
import math
import re
import unicodedata
import urllib.parse
from pathlib import Path

from utils.lab import LabError

ASSETS = Path(__file__).with_name("assets")
LONGEST = 300  # characters of a name
# ESC [ ... letter (colors, cursor), ESC ] ... BEL (titles, links), and the other two-character escapes.
TERMINAL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]{0,2000}(?:\x07|\x1b\\)|\x1b[@-Z\\^_]")
STATE_WORDS = {
    "OK": "scored", "MISSING_FILE": "file missing", "IMPORT_ERROR": "does not import",
    "LOAD_ERROR": "weights do not load", "SHAPE_ERROR": "wrong output", "TIMEOUT": "too slow",
    "OUT_OF_MEMORY": "out of memory", "CRASH": "crashed", "FLAGGED": "a person must decide"}


def text(value: object, longest: int = LONGEST) -> str:
    """`value` as HTML text or attribute, one line: escaped, cut, and what would not be seen made visible."""
    found = "" if value is None else str(value)
    cut = found[:longest] + "…" if len(found) > longest else found
    return html.escape(_visible(cut))


def log_text(value: object) -> str:
    """A program's output as HTML text: without a terminal's colors, a new line for each carriage return."""
    found = TERMINAL.sub("", str(value or "")).replace("\r\n", "\n").replace("\r", "\n")
    return html.escape("\n".join(_visible(line) for line in found.split("\n")))


def name(value: object, longest: int = LONGEST) -> str:
    """A name as HTML, kept apart from the text around it even if it runs from right to left."""
    return f"<bdi>{text(value, longest)}</bdi>"


def link(*parts: str) -> str:
    """A relative address of our own files, as an attribute's value."""
    return html.escape("/".join(urllib.parse.quote(part, safe="") for part in parts))


def person(folder: str) -> str:
    """The name in Moodle's folder names, `Name Surname_12345_assignsubmission_file_`; else the folder's name."""
    return re.sub(r"_\d+_assignsubmission_file_?$", "", folder)


def number(value: object) -> float | None:
    """`value` if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def figure(value: object, form: str = "{:,.0f}", none: str = "") -> str:
    """A number as text, `none` for what is none."""
    found = number(value)
    return none if found is None else form.format(found).replace("-", "\N{MINUS SIGN}")


def points(value: object, none: str = "") -> str:
    """Points without needless decimals: 25, 28.5, -5."""
    return figure(value, "{:.2f}", none).rstrip("0").rstrip(".") if number(value) is not None else none


def si(value: object, none: str = "") -> str:
    """A count with its unit: 41.96 M, 1.52 G."""
    found = number(value)
    if found is None:
        return none
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(found) >= size:
            return f"{found / size:.4g} {unit}" if abs(found) < 1000 * size or unit == "T" else f"{found:.3g}"
    return f"{found:.4g}"


def kilobytes(value: object, none: str = "") -> str:
    """A size in KB, with a decimal where it says something."""
    found = number(value)
    return none if found is None else f"{found:,.1f}" if abs(found) < 10_000 else f"{found:,.0f}"


def power(value: object, none: str = "") -> str:
    """A large number as 3.71e20, which sorts, copies and fits."""
    found = number(value)
    return none if found is None else f"{found:.3e}".replace("e+", "e")


def chip(state: object) -> str:
    """A task's state in words and in color."""
    kind = str(state)
    if kind not in STATE_WORDS:
        return f'<span class="chip bad">{text(kind)}</span>'
    look = {"OK": "good", "FLAGGED": "doubt", "MISSING_FILE": "none"}.get(kind, "bad")
    return f'<span class="chip {look}" title="{STATE_WORDS[kind]}">{kind.replace("_", " ")}</span>'


def scroll(label: str, content: str) -> str:
    """A table that scrolls sideways where it is too wide, reachable by keyboard under its `label`."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">{content}</div>'


def document(title: str, body: str, script: bool = False) -> str:
    """A whole page. `title` is plain text, `body` is HTML; `script` adds sorting and filtering of tables."""
    style, code = _asset("style.css"), _asset("tables.js") if script else ""
    policy = (f"default-src 'none'; img-src 'self' file:; style-src '{_hash(style)}'; "
              f"script-src {_quoted_hash(code)}; base-uri 'none'; form-action 'none'")
    return "\n".join([
        "<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="robots" content="noindex">', '<meta name="referrer" content="no-referrer">',
        f"<title>{text(title)}</title>", f"<style>{style}</style>", "</head>", "<body>", body,
        f"<script>{code}</script>" if code else "", "</body>", "</html>", ""])


def _visible(line: str) -> str:
    """Control characters as their numbers (\\x1b), and what steers the direction of writing by its number."""
    if line.isascii() and line.isprintable():
        return line
    return "".join(_seen(char) for char in line)


def _seen(char: str) -> str:
    code = ord(char)
    if char == "\t":
        return char
    kind = unicodedata.category(char)
    if kind == "Cc":
        return f"\\x{code:02x}"
    if kind == "Cs":
        return "\ufffd"
    if char in "\u200e\u200f\u061c\u2028\u2029" or "\u202a" <= char <= "\u202e" or \
            "\u2066" <= char <= "\u2069":
        return f"[U+{code:04X}]"
    return char


def _quoted_hash(code: str) -> str:
    return f"'{_hash(code)}'" if code else "'none'"


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


@functools.cache
def _asset(file: str) -> str:
    try:
        return (ASSETS / file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise LabError(f"expected {file} of the report's pages, found {error.strerror} at {ASSETS}: "
                       "restore it") from None
