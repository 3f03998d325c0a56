"""students/<slug>.html: everything about one student's hand-in. All that the student wrote is escaped."""
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from grading.overrides import Row
from grading.pages.charts import iou_bars, share_bar
from grading.pages.class_page import TITLE
from grading.pages.entries import Entry
from grading.pages.page import document, figure, link, log_text, name, number, points, power, si, text
from grading.points import NAMING, RANK, REPORT, TASK1, TASK2
from utils.lab import NUM_CLASSES, POINTS, TASKS
from utils.labels_cat import CATEGORIES

MOST_LAYERS = 400
MOST_ALIKE = 40
LEVELS = {"OK": "good", "WARN": "doubt", "FAIL": "bad"}


def student_page(entry: Entry, out: Path, rows: Sequence[Row] = (), by_slug: Mapping[str, Entry] | None = None,
                 pair_pages: Mapping[int, str] | None = None) -> str:
    """The page as HTML. out: the report folder, where pictures are looked for; rows: the student's of overrides.csv."""
    record, public = entry.record, entry.public
    facts = [] if public else [f"graded {str(record.get('graded') or '?').replace('T', ' ').rstrip('Z')}",
                               f"{figure(record.get('seconds'), '{:,.0f} s', '')}"]
    if not public and record.get("submitted"):
        facts.insert(0, f"handed in {record['submitted']}")
    beside = f' <small class="muted">{name(entry.person, 120)}</small>' if entry.person else ""
    parts = [
        f'<header class="top"><div><p class="over"><a href="../index.html">{TITLE}</a></p>'
        f'<h1>{name(entry.label, 120)}{beside}</h1>'
        f'<p class="muted">{text(" · ".join(fact for fact in facts if fact))}</p></div>'
        '<nav aria-label="Sections"><a href="../index.html">Class</a>'
        + "".join(f'<a href="#task{task}">Task {task}</a>' for task in TASKS) + "</nav></header>",
        "<main>", _cards(entry)]
    if not public:
        parts += ['<div class="two">', _points(entry, rows), _files(record), "</div>",
                  _alike(entry, by_slug or {}, pair_pages or {})]
    parts += [_task(entry, task, out) for task in TASKS]
    return document(f"{entry.label} · {TITLE}", "\n".join([*parts, "</main>"]))


def _cards(entry: Entry) -> str:
    rank = entry.points.rank
    cards = [(f"Task {task}, {title.title}", entry.miou(task) or entry.state(task)) for task, title in TASKS.items()]
    cards.append(("Rank by FoM", f"{rank} <small>of {entry.points.ranked}</small>" if rank else "&ndash;"))
    if not entry.public:
        most = sum(value for value in POINTS.values() if value > 0)
        cards.append(("Points so far", f"{points(entry.points.total)} <small>of {most}</small>"))
    return '<div class="cards">' + "".join(f'<div class="card"><span>{text(what)}</span><b>{value}</b></div>'
                                           for what, value in cards) + "</div>"


def _points(entry: Entry, rows: Sequence[Row]) -> str:
    words = {TASK1: "task 1", TASK2: "task 2", RANK: "", REPORT: "report", NAMING: "naming"}
    by_item = {row.item: row for row in rows}
    lines = []
    for item, value in entry.points.items.items():
        row = by_item.get(words.get(item, item))
        why = ""
        if row is not None and row.decision:
            why = f"decided: {text(row.decision)} {name(row.note)}"
        elif row is not None:
            why = name(row.reason, 600)
        elif item == RANK and entry.points.rank:
            why = f"rank {entry.points.rank} of {entry.points.ranked}"
        shown = points(value) if value is not None else '<span class="chip doubt">open</span>'
        lines.append(f'<tr><th scope="row" class="text">{text(item)}</th><td class="number">{shown}</td>'
                     f'<td class="text wide muted">{why}</td></tr>')
    return ('<section><h2>Points</h2><div class="scroll"><table class="plain"><tbody>' + "".join(lines) +
            '<tr class="sum"><th scope="row" class="text">so far</th><td class="number">'
            f"<b>{points(entry.points.total)}</b></td><td></td></tr></tbody></table></div></section>")


def _files(record: dict) -> str:
    files = record.get("files") if isinstance(record.get("files"), dict) else {}
    lines = []
    for part, file in files.items():
        file = file if isinstance(file, dict) else {}
        lines.append(f'<tr><th scope="row" class="text">{text(part)}</th><td class="text path">{name(file.get("path"))}'
                     f'</td><td class="number">{figure(file.get("bytes"))}</td>'
                     f'<td class="text"><code title="SHA-256 {text(file.get("sha256"))}">'
                     f'{text(str(file.get("sha256") or "")[:8])}</code></td></tr>')
    for part in record.get("missing") or ():
        lines.append(f'<tr><th scope="row" class="text">{text(part)}</th><td colspan="3" class="text">'
                     '<span class="chip bad">missing</span></td></tr>')
    notes = [("names", "none", note) for note in record.get("naming") or ()]
    notes += [(str(finding.get("subject")), LEVELS.get(str(finding.get("level")), "none"), finding.get("text"))
              for finding in record.get("findings") or () if isinstance(finding, dict) and finding.get("level") != "OK"]
    listed = "".join(f'<li><span class="chip {look}">{text(subject, 40)}</span> {name(note, 1000)}</li>'
                     for subject, look, note in notes)
    extra = record.get("extra") or []
    more = f'<p class="muted">Not asked for: {", ".join(name(path) for path in extra[:20])}' \
           f'{" and more" if len(extra) > 20 else ""}</p>' if extra else ""
    return ('<section><h2>Files</h2><div class="scroll"><table class="plain files"><tbody>' + "".join(lines) +
            f"</tbody></table></div>{'<ul class=notes>' + listed + '</ul>' if listed else ''}{more}</section>")


def _alike(entry: Entry, by_slug: Mapping[str, Entry], pages: Mapping[int, str]) -> str:
    if not entry.pairs:
        return ""
    lines = []
    for pair in entry.pairs[:MOST_ALIKE]:
        other = by_slug[pair.other(entry.record["slug"])]
        page = pages.get(id(pair))
        side = f' · <a href="{link("..", "pairs", page)}">side by side</a>' if page else ""
        lines.append(f"<li>Task {pair.task}, with {other.link('')}: {text('; '.join(pair.evidence), 1000)}{side}</li>")
    more = f'<p class="muted">and {len(entry.pairs) - MOST_ALIKE} more</p>' if len(entry.pairs) > MOST_ALIKE else ""
    return f'<section id="alike"><h2>Alike</h2><ul>{"".join(lines)}</ul>{more}</section>'


def _task(entry: Entry, task: int, out: Path) -> str:
    found, lab = entry.task(task), TASKS[task]
    parts = [f'<section id="task{task}" class="task"><h2>Task {task}: {text(lab.title)} {entry.state(task)}</h2>']
    if found.get("why") and not entry.public:
        parts.append(f'<p class="why">{name(found["why"], 2000)}</p>')
    if not entry.public:
        flags = "".join(f'<li><span class="chip doubt">{text(flag.get("code"), 40)}</span> '
                        f'{name(flag.get("text"), 1000)}</li>' for of_task, flag in entry.flags if of_task == task)
        parts.append(f'<ul class="notes">{flags}</ul>' if flags else "")
    if number(found.get("miou")) is not None:
        parts += [_figures(found, task, entry.thresholds[task]),
                  '<div class="two charts"><div><h3>IoU by category</h3>',
                  iou_bars(found.get("iou") or [], found.get("miou")), "</div><div><h3>Confusion matrix</h3>",
                  _confusion(found.get("confusion")), "</div></div>"]
    if not entry.public:
        parts += [_costs(found), _layers(found), _pictures(found, out), _log(found)]
    return "\n".join(part for part in [*parts, "</section>"] if part)


def _figures(found: dict, task: int, threshold: float) -> str:
    facts = [("mIoU", f"{figure(found.get('miou'), '{:.6f}')} <small>asked for: {threshold:g}</small>"),
             ("accuracy", figure(found.get("accuracy"), "{:.4f}")),
             ("multiply-accumulates", si(found.get("flops"))), ("size", figure(found.get("size_kb"), "{:,.1f} KB")),
             ("parameters", figure(found.get("parameters")))]
    if task == 2:
        facts.insert(2, ("FoM", power(found.get("fom"), "unranked")))
    facts += [("time", figure(found.get("seconds"), "{:,.1f} s")), ("ran on", text(found.get("device"))),
              ("sandbox", text(found.get("level")))]
    return '<dl class="facts">' + "".join(f"<div><dt>{what}</dt><dd>{value}</dd></div>"
                                          for what, value in facts if value) + "</dl>"


def _confusion(matrix: object) -> str:
    """The matrix as shares of each row; shade and number say the same."""
    rows = matrix if isinstance(matrix, list) and len(matrix) == NUM_CLASSES else None
    if rows is None or any(not isinstance(row, list) or len(row) != NUM_CLASSES for row in rows):
        return '<p class="muted">None.</p>'
    head = "".join(f'<th scope="col"><span>{category}</span></th>' for category in CATEGORIES)
    body = []
    for category, row in zip(CATEGORIES, rows, strict=True):
        counts = [number(value) or 0 for value in row]
        total = sum(counts)
        cells = []
        for other, count in zip(CATEGORIES, counts, strict=True):
            share = count / total if total else 0
            shown = "" if not total or share < 0.0005 else f"{share:.0%}" if share >= 0.01 else "·"
            told = f"{category} as {other}: {count:,.0f} pixels, {share:.2%}"
            cells.append(f'<td class="s{round(share * 10)}" title="{told}">{shown}</td>')
        body.append(f'<tr><th scope="row">{category}</th>{"".join(cells)}</tr>')
    return (f'<div class="scroll"><table class="confusion"><caption>rows: label, columns: prediction, share of the row'
            f'</caption><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>')


def _costs(found: dict) -> str:
    costs = found.get("costs")
    if not isinstance(costs, dict):
        return ""
    kinds = (("MACs by thop", si(costs.get("thop"))), ("MACs by the dispatcher, on zeros", si(costs.get("dispatched"))),
             ("the most of any picture", si(costs.get("dispatched_max"))),
             ("held after a forward pass", figure(costs.get("held_kb"), "{:,.1f} KB")),
             (".pth file", figure(costs.get("pth_kb"), "{:,.1f} KB")),
             (".pth unpacked", figure(costs.get("pth_unpacked_kb"), "{:,.1f} KB")),
             ("literals in the source", figure(costs.get("literal_bytes"), "{:,.0f} bytes")))
    lines = "".join(f'<tr><th scope="row" class="text">{what}</th><td class="number">{value}</td></tr>'
                    for what, value in kinds if value)
    return ('<details><summary>Costs, as each counter has them; the larger counts</summary><div class="scroll">'
            f'<table class="plain narrow"><tbody>{lines}</tbody></table></div></details>')


def _layers(found: dict) -> str:
    layers = [row for row in found.get("layers") or () if isinstance(row, dict)]
    if not layers:
        return ""
    lines = []
    for row in layers[:MOST_LAYERS]:
        shape = row.get("output", row.get("output_shape"))
        shape = " x ".join(str(size) for size in shape[1:]) if isinstance(shape, (list, tuple)) else ""
        lines.append(f'<tr><th scope="row" class="text path">{name(row.get("name"), 80)}</th>'
                     f'<td class="text">{name(row.get("type"), 40)}</td><td class="number">{text(shape, 40)}</td>'
                     f'<td class="number">{figure(row.get("parameters"))}</td>'
                     f'<td class="number">{si(row.get("macs"))}</td>'
                     f'<td class="number">{share_bar(row.get("share"))} {figure(row.get("share"), "{:.1%}")}</td></tr>')
    more = f'<p class="muted">and {len(layers) - MOST_LAYERS} more</p>' if len(layers) > MOST_LAYERS else ""
    return (f'<details><summary>Layers ({len(layers)})</summary><div class="scroll"><table><thead><tr><th>Layer</th>'
            '<th>Type</th><th class="number">Output</th><th class="number">Parameters</th><th class="number">MACs</th>'
            f'<th class="number">Share</th></tr></thead><tbody>{"".join(lines)}</tbody></table></div>{more}</details>')


def _pictures(found: dict, out: Path) -> str:
    shown = []
    for picture in found.get("pictures") or ():
        parts = _inside(picture.get("file") if isinstance(picture, dict) else None, out)
        if parts:
            told = f"{text(picture.get('name'), 80)}, mIoU {figure(picture.get('miou'), '{:.3f}')}"
            shown.append(f'<figure><img src="{link("..", *parts)}" alt="picture, label and prediction: {told}" '
                         f'loading="lazy"><figcaption>{told}</figcaption></figure>')
    return f'<h3>Worst pictures</h3><div class="pictures">{"".join(shown)}</div>' if shown else ""


def _inside(file: object, out: Path) -> tuple[str, ...]:
    """The parts of a picture's path if it is one of ours, below REPORT/pictures."""
    parts = PurePosixPath(file).parts if isinstance(file, str) else ()
    fine = len(parts) > 1 and parts[0] == "pictures" and ".." not in parts and Path(out, *parts).is_file()
    return parts if fine else ()


def _log(found: dict) -> str:
    log = log_text(found.get("log"))
    if not log.strip():
        return ""
    lines = log.count("\n") + 1
    return (f'<details class="log"{" open" if found["state"] != "OK" else ""}><summary>What it printed ({lines:,} '
            f'line{"s" * (lines > 1)}), as it is</summary><pre tabindex="0">{log}</pre></details>')
