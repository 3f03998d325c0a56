"""index.html: the class on one page. Leaderboard, costs, what a person has to decide, flags, who is alike."""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from grading.overrides import Row
from grading.pages.charts import Point, reference_miou, scatter
from grading.pages.entries import Entry
from grading.pages.page import document, figure, kilobytes, link, name, number, points, power, scroll, si, text
from grading.points import NAMING, RANK, REPORT, TASK1, TASK2
from grading.similarity.pairs import Pair, groups
from utils.lab import TASKS

TITLE = "Lab 05: semantic segmentation"
MOST_PAIRS = 12  # of one group of submissions that are alike


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard: heading, group, what a cell shows (HTML) and what it sorts by (None: last)."""

    title: str
    group: str
    show: Callable[[Entry], str]
    value: Callable[[Entry], object]
    kind: str = "number"
    first: str = "ascending"
    hint: str = ""
    look: str = ""

    @property
    def look_of(self) -> str:
        return self.look if "text" in self.look else f"{self.kind} {self.look}".strip()


def class_page(entries: Sequence[Entry], rows: Sequence[Row] = (), pairs: Sequence[Pair] = (),
               pair_pages: Mapping[int, str] | None = None, public: bool = False) -> str:
    """The page as HTML. rows: overrides.csv's, pairs: those alike, pair_pages: id(pair) -> the page that shows it."""
    by_slug = {entry.record["slug"]: entry for entry in entries}
    sections = [("leaderboard", "Leaderboard", _leaderboard(entries, public)), ("costs", "Costs", _costs(entries))]
    if not public:
        sections += [("decide", "To decide", _decisions(rows, by_slug)), ("flags", "Flags", _flags(entries)),
                     ("alike", "Alike", _alike(pairs, by_slug, pair_pages or {}))]
    nav = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in sections)
    body = "\n".join([
        '<a class="skip" href="#leaderboard">To the leaderboard</a>',
        f'<header class="top"><div><p class="over">{TITLE}</p><h1>{"Ranking" if public else "Class report"}</h1>'
        f"{_made(entries, public)}</div><nav aria-label=\"Sections\">{nav}</nav></header>",
        "<main>", _cards(entries, rows, pairs, public),
        *(f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>{content}</section>'
          for key, title, content in sections), "</main>"])
    return document(f"{TITLE}: {'ranking' if public else 'class report'}", body, script=True)


def _made(entries: Sequence[Entry], public: bool) -> str:
    """When and how the records were made, in a line; with a warning where they were not all made alike."""
    records = [entry.record for entry in entries]
    days = sorted({str(record.get("graded") or "")[:10] for record in records} - {""})
    tasks = [task for record in records for task in record["tasks"].values() if number(task.get("miou")) is not None]
    devices, levels = ({str(task.get(key) or "") for task in tasks} - {""} for key in ("device", "level"))
    versions = {tuple((record.get("versions") or {}).items()) for record in records}
    facts = [f"{days[0]} to {days[-1]}" if len(days) > 1 else "".join(days), ", ".join(sorted(devices))]
    if not public:
        facts += [", ".join(sorted(levels))]
        facts += [", ".join(f"{key} {value}" for key, value in next(iter(versions)))] if len(versions) == 1 else []
    line = f'<p class="muted">{text(" · ".join(fact for fact in facts if fact))}</p>'
    mixed = [what for what, kinds in (("devices", devices), ("levels of the sandbox", levels), ("versions", versions))
             if len(kinds) > 1]
    if mixed and not public:
        line += (f'<p class="warn">Graded with different {" and ".join(mixed)}: a ranking is fair where all are alike.'
                 "</p>")
    return line


def _cards(entries: Sequence[Entry], rows: Sequence[Row], pairs: Sequence[Pair], public: bool) -> str:
    n = len(entries)
    ranked = [entry for entry in entries if entry.points.rank]
    cards = [("Submissions", f"{n}", "")]
    for task, threshold in (entries[0].thresholds if entries else {}).items():
        reached = sum(entry.reached(task) for entry in entries)
        cards.append((f"Task {task}: {threshold:g} reached", f"{reached} <small>of {n}</small>", "#leaderboard"))
    cards.append(("Ranked by FoM", f"{len(ranked)} <small>of {n}</small>", "#costs"))
    if ranked:
        cards.append(("Best FoM", power(ranked[0].task(2).get("fom")), ""))
    if not public:
        open_rows = [row for row in rows if not row.decision and row.points and row.item != "report"]
        unread = sum(entry.points.items.get(REPORT) is None for entry in entries)
        alike = len({slug for pair in pairs for slug in (pair.first, pair.second)})
        cards += [("To decide", str(len(open_rows)), "#decide"), ("Reports to read", str(unread), ""),
                  ("Alike", f"{alike} <small>of {n}</small>", "#alike")]
    shown = "".join(f'<a class="card" href="{where}"><span>{what}</span><b>{count}</b></a>' if where else
                    f'<div class="card"><span>{what}</span><b>{count}</b></div>' for what, count, where in cards)
    return f'<div class="cards">{shown}</div>'


def columns(public: bool) -> list[Column]:
    """The leaderboard's columns, from the left."""
    def task_value(task: int, key: str) -> Callable[[Entry], object]:
        return lambda entry: number(entry.task(task).get(key))

    def item(key: str) -> tuple[Callable[[Entry], str], Callable[[Entry], object]]:
        return (lambda entry: points(entry.points.items.get(key), "<span class=\"muted\">open</span>"),
                lambda entry: number(entry.points.items.get(key)))

    found = [
        Column("Rank", "", lambda entry: figure(entry.points.rank, none="&ndash;"), lambda entry: entry.points.rank,
               hint="by figure of merit, equals by mIoU"),
        Column("Student", "", _student, lambda entry: entry.label, "text", look="student"),
        Column("mIoU", "Task 1", lambda entry: entry.miou(1), task_value(1, "miou"), first="descending", look="start"),
        Column("mIoU", "Task 2", lambda entry: entry.miou(2), task_value(2, "miou"), first="descending", look="start"),
        Column("MACs", "Task 2", lambda entry: si(entry.task(2).get("flops")), task_value(2, "flops")),
        Column("KB", "Task 2", lambda entry: kilobytes(entry.task(2).get("size_kb")), task_value(2, "size_kb")),
        Column("FoM", "Task 2", lambda entry: power(entry.task(2).get("fom")), task_value(2, "fom"),
               hint="MACs^2 x KB^2 / (mIoU - 0.65), smaller is better")]
    if public:
        return found
    found.append(Column("Total", "Points", lambda entry: f"<b>{points(entry.points.total)}</b>",
                        lambda entry: entry.points.total, first="descending", hint="what is known so far",
                        look="start"))
    for title, key, hint in (("Task 1", TASK1, "task 1"), ("Task 2", TASK2, "task 2"), ("Rank", RANK, "rank by FoM"),
                             ("Report", REPORT, "report, read by a person"), ("Naming", NAMING, "wrong names, once")):
        show, value = item(key)
        found.append(Column(title, "Points", show, value, first="descending", hint=hint))
    return [*found, Column("To look at", "", _look_at, _look_at_count, first="descending", look="start text")]


def _leaderboard(entries: Sequence[Entry], public: bool) -> str:
    found = columns(public)
    head, index = [], 0
    while index < len(found):
        group = found[index].group
        width = next((i for i in range(index, len(found)) if found[i].group != group), len(found)) - index
        head.append(f'<th scope="colgroup" colspan="{width}" class="start">{group}</th>' if group else
                    f'<td colspan="{width}"></td>')
        index += width
    titles = []
    for place, column in enumerate(found):
        sort = ' aria-sort="ascending"' if place == 0 else ""
        hint = f' title="{text(column.hint)}"' if column.hint else ""
        label = f' aria-label="{column.group}: {column.title}"' if column.group else ""
        titles.append(f'<th scope="col" data-column="{place}" data-kind="{column.kind}" data-first="{column.first}" '
                      f'data-title="{column.title}" class="{column.look_of}"{sort}>'
                      f'<button type="button"{hint}{label}>{column.title}</button></th>')
    body = []
    for entry in entries:
        cells = []
        for column in found:
            value = column.value(entry)
            cell = "th" if column.look == "student" else "td"
            scope = ' scope="row"' if cell == "th" else ""
            cells.append(f'<{cell}{scope} class="{column.look_of}" '
                         f'data-value="{text("" if value is None else value)}">{column.show(entry)}</{cell}>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        '<p class="tools"><label>Filter <input type="search" data-filters="board" placeholder="name, state, flag" '
        'autocomplete="off"></label> <span id="board-count" class="muted" role="status"></span>'
        '<span class="muted hint">Click a heading to sort.</span></p>'
        + scroll("Leaderboard", f'<table id="board" class="sortable"><thead><tr class="groups">{"".join(head)}</tr>'
                 f'<tr>{"".join(titles)}</tr></thead><tbody>{"".join(body)}</tbody></table>'))


def _student(entry: Entry) -> str:
    beside = f'<small class="muted">{name(entry.person, 40)}</small>' if entry.person else ""
    return f"{entry.link()}{beside}"


def _look_at(entry: Entry) -> str:
    page = link("students", entry.page + ".html")
    codes = list(dict.fromkeys(str(flag.get("code")) for _, flag in entry.flags))
    chips = [f'<span class="chip doubt">{text(code, 24)}</span>' for code in codes[:3]]
    chips += [f'<span class="chip doubt">+{len(codes) - 3}</span>'] if len(codes) > 3 else []
    if entry.record.get("naming"):
        chips.append('<span class="chip none">names</span>')
    if entry.record.get("missing"):
        chips.append(f'<span class="chip none">{len(entry.record["missing"])} missing</span>')
    if entry.pairs:
        others = len({pair.other(entry.record["slug"]) for pair in entry.pairs})
        chips.append(f'<a class="chip doubt" href="{page}#alike">alike: {others}</a>')
    return " ".join(chips)


def _look_at_count(entry: Entry) -> int | None:
    return len(entry.flags) + len(entry.pairs) + bool(entry.record.get("naming")) + len(entry.record.get("missing") or
                                                                                        ()) or None


def _costs(entries: Sequence[Entry]) -> str:
    found = []
    for entry in entries:
        task = entry.task(2)
        flops, size = number(task.get("flops")), number(task.get("size_kb"))
        if flops and size and flops > 0 and size > 0:
            label = text(f"{entry.label} {entry.person}".strip(), 80)
            found.append(Point(label, link("students", entry.page + ".html"), flops, size, number(task.get("miou")),
                               number(task.get("fom")), entry.points.rank))
    if not found:
        return '<p class="muted">No network of task 2 could be measured.</p>'
    wide, outside = scatter(found)
    narrow, _ = scatter(found, 400, 440, "narrow")
    middle = reference_miou(found)
    lines = f"Dashed: equal FoM for a network of mIoU {middle:.2f}, the class's middle; lower left is better. " \
        if middle else ""
    beyond = "; ".join(f'<a href="{point.href}">{point.label}</a> ({si(point.flops)} MACs, '
                       f"{kilobytes(point.size_kb)} KB)" for point in outside)
    return (f"<figure>{wide}{narrow}<figcaption>Task 2's networks, both axes logarithmic. {lines}Numbers are ranks; a "
            f"hollow marker has none.{' Too far out to be drawn: ' + beyond + '.' if beyond else ''}"
            "</figcaption></figure>")


def _decisions(rows: Sequence[Row], by_slug: Mapping[str, Entry]) -> str:
    waiting = [row for row in rows if not row.decision and row.points and row.item != "report"]
    decided = [row for row in rows if row.decision and row.item != "report"]
    if not waiting and not decided:
        return '<p class="muted">Nothing: no wrong names, no flagged scores.</p>'
    how = ("<p>Write <code>waive</code> or a number into <code>overrides.csv</code>, column <code>decision</code>, and "
           "run <code>python -m grading report REPORT</code> again. What is left empty stays as proposed; a flagged "
           "score does not count until someone decides.</p>")
    lines = []
    for row in (*waiting, *decided):
        who = by_slug[row.student].link() if row.student in by_slug else name(row.student)
        state = f"<b>{text(row.decision)}</b> {name(row.note)}" if row.decision else \
            '<span class="chip doubt">open</span>'
        lines.append(f'<tr><th scope="row" class="text">{who}</th><td class="text">{text(row.item)}</td>'
                     f'<td class="text wide">{name(row.reason, 600)}</td><td class="number">{text(row.points)}</td>'
                     f'<td class="text">{state}</td></tr>')
    return how + scroll("To decide", '<table><thead><tr><th>Student</th><th>Item</th><th>Reason</th><th class="number">'
                        f'Points</th><th>Decision</th></tr></thead><tbody>{"".join(lines)}</tbody></table>')


def _flags(entries: Sequence[Entry]) -> str:
    lines = [f'<tr><th scope="row" class="text">{entry.link()}</th><td class="number">{task}</td>'
             f'<td class="text"><span class="chip doubt">{text(flag.get("code"), 40)}</span></td>'
             f'<td class="text wide">{name(flag.get("text"), 600)}</td></tr>'
             for entry in entries for task, flag in entry.flags]
    if not lines:
        return '<p class="muted">None.</p>'
    return "<p>What the measurement or a reading of the code found odd. A flag is a question, no verdict.</p>" + scroll(
        "Flags", '<table><thead><tr><th>Student</th><th class="number">Task</th><th>Flag</th><th>What was found</th>'
        f'</tr></thead><tbody>{"".join(lines)}</tbody></table>')


def _alike(pairs: Sequence[Pair], by_slug: Mapping[str, Entry], pages: Mapping[int, str]) -> str:
    if not pairs:
        return '<p class="muted">No two submissions stand out.</p>'
    parts = ["<p>Pairs whose network files or weights are alike, less what the hand-out gave and what many share. "
             "Equal weights can also come of equal code, settings and seed on one machine: look at both before you "
             "judge.</p>"]
    for task in TASKS:
        of_task = [pair for pair in pairs if pair.task == task]
        for group in groups(of_task):
            members = set(group)
            inside = [pair for pair in of_task if pair.first in members]
            people = ", ".join(by_slug[slug].link() for slug in group)
            lines = "".join(_pair_line(pair, by_slug, pages) for pair in inside[:MOST_PAIRS])
            more = f'<p class="muted">and {len(inside) - MOST_PAIRS} more pairs of this group, on the students\' ' \
                   "pages</p>" if len(inside) > MOST_PAIRS else ""
            parts.append(f'<article class="group"><h3>Task {task}: {len(group)} submissions</h3><p>{people}</p>'
                         f"<ul>{lines}</ul>{more}</article>")
    return "".join(parts)


def _pair_line(pair: Pair, by_slug: Mapping[str, Entry], pages: Mapping[int, str]) -> str:
    first, second = by_slug[pair.first], by_slug[pair.second]
    both = f"{name(first.label, 60)} and {name(second.label, 60)}"
    seen = pages.get(id(pair))
    who = f'<a href="{link("pairs", seen)}">{both}</a>' if seen else both
    return f"<li>{who}: {text('; '.join(pair.evidence), 1000)}</li>"
