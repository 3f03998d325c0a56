"""Tables as text and as JSON, and the machine they come from."""
import os
import platform

import numpy as np
import PIL
import torch
import torchvision

from benchmarks.measure import Cost, Row, Table
from utils.machine import available_cores, cpu_name
from utils.tables import aligned

COLUMNS = ("", "cpu", "wall", "+-", "x cpu", "x wall", "goal", "", "")
TO_THE_LEFT = (0, 6, 7, 8)


def describe_machine() -> dict:
    """What the figures depend on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {"cpu": cpu_name(), "cores_allowed": available_cores(), "cores": os.cpu_count(), "gpu": gpu,
            "load_at_start": load, "system": platform.platform(), "python": platform.python_version(),
            "torch": torch.__version__, "torchvision": torchvision.__version__, "numpy": np.__version__,
            "pillow": PIL.__version__}


def format_machine(machine: dict) -> str:
    return (f"machine: {machine['cpu']}, {machine['cores_allowed']} of {machine['cores']} cores allowed, "
            f"GPU: {machine['gpu'] or 'none'}, load {machine['load_at_start']} at the start\n"
            f"         Python {machine['python']}, torch {machine['torch']}, torchvision {machine['torchvision']}, "
            f"numpy {machine['numpy']}, Pillow {machine['pillow']}")


def format_table(table: Table) -> str:
    """The table with a heading; the row marked * is the one that the columns x compare with."""
    cells = [COLUMNS] + [_cells(table, row) for row in table.rows]
    lines = ["  " + line for line in aligned(cells, TO_THE_LEFT)]
    return "\n".join([f"{table.name}: {table.title} (ms {table.unit})", *lines])


def table_json(table: Table) -> dict:
    """The same, with every round."""
    return {"name": table.name, "title": table.title, "unit": table.unit, "reference": table.reference.road.name,
            "rows": [_row_json(table, row) for row in table.rows]}


def _cells(table: Table, row: Row) -> tuple[str, ...]:
    name = row.road.name + (" *" if row is table.reference else "")
    goal, verdict = str(row.road.goal or ""), table.verdict(row)
    if row.road.missing:
        return (name, "", "", "", "", "", goal, "not measured: " + row.road.missing, row.note)
    median, ratio = row.median, table.ratio(row)
    compared = (_figure(ratio.cpu), _figure(ratio.wall)) if ratio else ("", "")
    return (name, _figure(1e3 * median.cpu), _figure(1e3 * median.wall), f"{100 * row.spread:.0f} %", *compared,
            goal, verdict, row.note)


def _row_json(table: Table, row: Row) -> dict:
    goal = row.road.goal
    content = {"name": row.road.name, "units_a_round": row.road.units, "note": row.note,
               "goal": goal and {"at_least": goal.at_least, "at_most": goal.at_most, "by": goal.by},
               "verdict": table.verdict(row)}
    if row.road.missing:
        return content | {"missing": row.road.missing}
    ratio = table.ratio(row)
    return content | {"seconds": _pair(row.median), "ratio": _pair(ratio) if ratio else None,
                      "rounds": [_pair(cost) for cost in row.costs]}


def _pair(cost: Cost) -> dict[str, float]:
    return {"cpu": cost.cpu, "wall": cost.wall}


def _figure(value: float) -> str:
    """Three significant digits or more."""
    if value < 0.1:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"
