"""Which sandbox this machine gives, proved by attacking it."""
from collections.abc import Callable

from grading.trial.sandbox import Level, find_level, unavailable
from grading.trial.sandbox.probes import GPU, PROBES, ProbeResult, try_probe
from grading.trial.sandbox.scene import make_scene
from grading.trial.sandbox.visible import gpu_nodes

WIDTH = 62  # of the longest thing found that is shown


def doctor(print: Callable[[str], object] = print) -> bool:
    """Prints a table of probes for each level that works here, and the level that grading will use.

    Whether every probe of that level holds. Raises LabError where there is no level but NONE.
    """
    held = {}
    for level in (Level.BUBBLEWRAP, Level.NAMESPACES):
        reason = unavailable(level)
        print(f"{level.value}: {f'not available: {reason}' if reason else 'available'}")
        if not reason:
            rows = prove(level)
            for line in table(rows):
                print(f"  {line}")
            held[level] = all(row.ok for row in rows)
        print("")
    level = find_level()
    print(f"grading will use: {level.value}" + ("" if held[level] else ", in which not every probe holds"))
    return held[level]


def prove(level: Level) -> list[ProbeResult]:
    """Tries every probe at a level that is available."""
    with make_scene() as scene:
        return [try_probe(probe, level, scene) for probe in (*PROBES, *((GPU,) if gpu_nodes() else ()))]


def table(rows: list[ProbeResult]) -> list[str]:
    cells = [("a program ...", "expected", "found", "")]
    cells += [(row.probe, row.expected, row.found[:WIDTH], "OK" if row.ok else "FAIL") for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
