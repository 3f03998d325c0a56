"""Rows of text as tables: Markdown, and columns for a terminal."""
import itertools
from collections.abc import Container, Sequence


def markdown(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """`rows`, a heading first, as lines `| a | b |`, Markdown that reads well unrendered; `left` columns stand left."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = _widths(rows)
    lines = [f"| {' | '.join(_padded(row, widths, range(left)))} |" for row in rows]
    rule = [":" + "-" * (width + 1) if column < left else "-" * (width + 1) + ":"
            for column, width in enumerate(widths)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])


def aligned(rows: Sequence[Sequence[str]], left: Container[int]) -> list[str]:
    """`rows`, of any lengths, as lines of columns two blanks apart; those in `left` stand left, the others right."""
    widths = _widths(rows)
    return ["  ".join(_padded(row, widths, left)).rstrip() for row in rows]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]


def _padded(row: Sequence[str], widths: Sequence[int], left: Container[int]) -> list[str]:
    return [cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))]
