"""Proves that no line of a solution is left in the kit.

It compares words and signs one after another. Spaces, indentation, line breaks, the kind of quotes and a comment at the
end of a line make no difference. A line of a solution is found wherever its words and signs occur in a text of the kit:
alone, within a longer line, broken over two lines, in a comment, a docstring or a notebook's prose.

It searches for every line of a solution, comments included, that has at least FEWEST words and signs; the comment at
its end and its last comma do not count. Shorter lines (`)`, `w = width`, `return y`) say nothing by themselves. OPEN
lists the longer ones that say nothing either, each with its reason. There is no other exception.

It does not see a solution in other words, for instance with other names.
"""
import io
import re
import tokenize
from collections.abc import Iterable
from typing import NamedTuple

from grading.kit.strip import StrippedBlock, place

FEWEST = 5
WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")
OPEN = {
    "super().__init__(": "how every constructor of a torch module begins, those of the hand-out as well",
}


class Text(NamedTuple):
    """A text of the kit: a file, or one cell of a notebook (from 1; 0 for a file)."""

    file: str
    cell: int
    text: str


class Line(NamedTuple):
    """A line of a solution: its place in the repository, its text, and its words and signs, parted by spaces."""

    place: str
    text: str
    run: str


def telling_lines(blocks: Iterable[StrippedBlock]) -> list[Line]:
    """The lines of all solutions that no text of the kit may hold."""
    found = []
    for block in blocks:
        if not block.task:
            continue
        for number, line in enumerate(_without_trailing_comments(block.solution).split("\n"), block.first + 1):
            words = _words(line.strip().lstrip("#").rstrip(", \t"))
            if len(words) >= FEWEST and not any(words == _words(text) for text in OPEN):
                found.append(Line(block.place(number), line.strip(), _run(words)))
    return found


def find_leaks(blocks: Iterable[StrippedBlock], texts: Iterable[Text]) -> list[str]:
    """Each line of a solution that a text of the kit holds, as "PLACE IN THE KIT holds `LINE` of PLACE OF SOLUTION"."""
    lines, leaks = telling_lines(blocks), []
    for text in texts:
        words = [(word, number) for number, line in enumerate(text.text.split("\n"), 1) for word in _words(line)]
        run = _run([word for word, _ in words])
        for line in lines:
            at = run.find(line.run)
            if at >= 0:
                number = words[run.count(" ", 0, at)][1]
                leaks.append(f"{place(text.file, text.cell, number)} holds `{line.text}` of {line.place}")
    return leaks


def _words(text: str) -> list[str]:
    return WORD_OR_SIGN.findall(text.replace("'", '"'))


def _run(words: list[str]) -> str:
    return f" {' '.join(words)} "


def _without_trailing_comments(code: str) -> str:
    """The code without the comments at the end of a line; a comment in a line of its own stays."""
    lines = code.split("\n")
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    dedented = "\n".join(line[indent:] for line in lines)
    for token in tokenize.generate_tokens(io.StringIO(dedented).readline):
        row, column = token.start[0] - 1, token.start[1] + indent
        if token.type == tokenize.COMMENT and lines[row][:column].strip():
            lines[row] = lines[row][:column]
    return "\n".join(lines)
