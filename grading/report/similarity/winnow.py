"""Which passages two Python files share, whatever was renamed, reformatted or commented in one of them.

Follows Schleimer, Wilkerson and Aiken, "Winnowing: Local Algorithms for Document Fingerprinting" (2003): a file becomes
a row of tokens, every K of them in a row are hashed, and of every WINDOW hashes in a row the smallest is kept, so that
a shared passage of K + WINDOW - 1 tokens is always found. Files are of unknown origin: they are read as text of bounded
size, and neither parsed nor imported. (copydetect 0.5 makes the layers' names alike too: it finds a U-Net whose layers
are all of another kind 100 % equal, and its shares change with Python's hash seed from run to run.)
"""
import builtins
import hashlib
import keyword
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

K = 12      # tokens
WINDOW = 6  # hashes
MOST_BYTES = 256 << 10  # read of a file
MOST_TOKENS = 50_000

# What a text begins with, tried in this order. Every alternative that begins with a quote matches even where the
# closing one is missing: a file of half-open strings would take quadratic time otherwise.
LEXER = re.compile(r'''
    (?P<comment> \#[^\n]* | \\\n )
  | (?P<string>  [rbfuRBFU]{0,2} (?: """(?:[^\\]|\\.)*?(?:"""|\Z) | \'\'\'(?:[^\\]|\\.)*?(?:\'\'\'|\Z)
                                   | "(?:[^"\\\n]|\\.)*"?         | '(?:[^'\\\n]|\\.)*'? ) )
  | (?P<name>    [^\W\d]\w* )
  | (?P<number>  \.?\d(?:\w|\.)* )
  | (?P<sign>    [^\s\w] )
''', re.VERBOSE | re.DOTALL)
KEPT = {*keyword.kwlist, *dir(builtins), "self", "cls"}


class Token(NamedTuple):
    """A token without what a copy would change first, and its line (from 1)."""

    text: str
    line: int


@dataclass
class Prints:
    """A file's fingerprints: the winnowed hashes, each with the lines (first, last) of one passage of K tokens.

    `every` holds all hashes with the lines of all their passages, for subtracting and for showing; `whole`
    stands for the row of tokens as such.
    """

    kept: dict[int, tuple[int, int]] = field(default_factory=dict)
    every: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    whole: str = ""


def read_source(path: Path) -> str:
    """The text of a file, its first 256 KB; bytes that are no UTF-8 become U+FFFD."""
    with path.open("rb") as file:
        return file.read(MOST_BYTES).decode("utf-8-sig", errors="replace").replace("\r\n", "\n")


def tokens(text: str) -> list[Token]:
    """The tokens of Python source, without comments, strings (and so docstrings) and layout.

    The student's own names become I; kept are keywords, built-ins and what is asked of a module or a tensor (nn.Conv2d,
    x.shape). Numbers from 10 on become N: the widths of a copy are what is changed first. At most MOST_TOKENS.
    """
    found: list[Token] = []
    line, position = 1, 0
    for match in LEXER.finditer(text):
        if len(found) >= MOST_TOKENS:
            break
        line += text.count("\n", position, match.start())
        position = match.start()
        kind, word = match.lastgroup, match[0]
        if kind == "name":
            foreign = len(found) > 1 and found[-1].text == "." and found[-2].text != "self"
            found.append(Token(word if word in KEPT or foreign else "I", line))
        elif kind == "number":
            found.append(Token(word if len(word) == 1 else "N", line))
        elif kind == "sign":
            found.append(Token(word, line))
    return found


def winnow(row: Sequence[Token]) -> Prints:
    """The fingerprints of a row of tokens; none for fewer than K tokens."""
    texts = [token.text for token in row]
    hashes = [_hash(texts[start:start + K]) for start in range(len(row) - K + 1)]
    every: dict[int, list[tuple[int, int]]] = {}
    for start, value in enumerate(hashes):
        every.setdefault(value, []).append((row[start].line, row[start + K - 1].line))
    kept = {}
    for start in range(max(1, len(hashes) - WINDOW + 1) if hashes else 0):
        window = hashes[start:start + WINDOW]
        place = start + min(range(len(window)), key=lambda index: (window[index], -index))
        kept.setdefault(hashes[place], (row[place].line, row[place + K - 1].line))
    return Prints(kept, every, hashlib.sha256(" ".join(texts).encode("utf-8", "replace")).hexdigest())


def without(prints: Prints, known: Iterable[int]) -> Prints:
    """The fingerprints less those of passages that are `known`: the hand-out's, the whole class's."""
    known = set(known)
    kept, every = ({value: lines for value, lines in held.items() if value not in known}
                   for held in (prints.kept, prints.every))
    return Prints(kept, every, prints.whole)


def shared_lines(prints: Prints, other: Prints) -> list[tuple[int, int]]:
    """The lines of `prints` with passages that `other` has too, as ranges (first, last), merged and sorted."""
    ranges: list[tuple[int, int]] = []
    for first, last in sorted(lines for value in prints.every.keys() & other.every.keys()
                              for lines in prints.every[value]):
        if ranges and first <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(last, ranges[-1][1]))
        else:
            ranges.append((first, last))
    return ranges


def _hash(texts: list[str]) -> int:
    # Python's own hash of strings differs from run to run, and the report must not.
    return int.from_bytes(hashlib.blake2b(" ".join(texts).encode("utf-8", "replace"), digest_size=8).digest(), "big")
