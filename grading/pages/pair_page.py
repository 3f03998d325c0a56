"""pairs/<n>.html: two network files that are alike, side by side, the lines that both have marked."""
from pathlib import Path

from grading.pages.class_page import TITLE
from grading.pages.entries import Entry
from grading.pages.page import document, log_text, text
from grading.similarity.pairs import Pair
from grading.similarity.winnow import read_source

MOST_LINES = 1500


def pair_page(pair: Pair, first: Entry, second: Entry, sources: tuple[Path, Path]) -> str:
    """The page as HTML; files that are not there are left out."""
    columns = "".join(_column(entry, source, lines) for entry, source, lines
                      in zip((first, second), sources, pair.lines, strict=True))
    body = "\n".join([
        f'<header class="top"><div><p class="over"><a href="../index.html#alike">{TITLE}</a></p>'
        f"<h1>Alike, task {pair.task}</h1><p>{text('; '.join(pair.evidence), 2000)}</p></div>"
        '<nav aria-label="Sections"><a href="../index.html">Class</a></nav></header>',
        '<main class="wide"><p class="muted">Marked: passages that are in both, less those of the hand-out, whatever '
        f'the names. A reason to look, no verdict.</p><div class="two sources">{columns}</div></main>'])
    return document(f"{first.label} and {second.label} · {TITLE}", body)


def _column(entry: Entry, source: Path, ranges: list[tuple[int, int]]) -> str:
    marked = {line for start, end in ranges for line in range(start, end + 1)}
    lines = read_source(source).split("\n") if source.is_file() else ["(the file is not in the report folder)"]
    rows = []
    for number, line in enumerate(lines[:MOST_LINES], 1):
        shown = log_text(line).replace("\n", " ")
        rows.append(f"<mark>{shown or ' '}</mark>" if number in marked else f"<span>{shown or ' '}</span>")
    more = f'<p class="muted">and {len(lines) - MOST_LINES} more lines</p>' if len(lines) > MOST_LINES else ""
    return (f'<section><h2>{entry.link("../students")}</h2><pre class="source" tabindex="0">{"".join(rows)}</pre>{more}'
            "</section>")
