"""pairs/<n>.html: two that are alike, side by side: where their networks err, and the lines that both files have."""
from pathlib import Path

from grading.report.pages.entries import StudentEntry
from grading.report.pages.page import render
from grading.report.similarity.pairs import AlikePair
from grading.report.similarity.winnow import read_source

MOST_LINES = 1500


def pair_page(pair: AlikePair, first: StudentEntry, second: StudentEntry, sources: tuple[Path, Path],
              errors: str = "") -> str:
    """The page as HTML; files that are not there are left out. errors: their error maps, a PNG beside it."""
    columns = []
    for entry, source, ranges in zip((first, second), sources, pair.lines, strict=True):
        lines = read_source(source).split("\n") if source.is_file() else ["(the file is not in the report folder)"]
        marked = {line for start, end in ranges for line in range(start, end + 1)}
        columns.append((entry, lines, marked))
    return render("pair.html", pair=pair, columns=columns, most_lines=MOST_LINES, errors=errors)
