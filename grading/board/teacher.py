"""What a teacher can do on the board: decide, pause, tell, put back, make links anew, export."""
from collections.abc import Callable
from typing import TYPE_CHECKING

from grading.board.export import export
from grading.board.standings import CONFIRMED, WITHDRAWN
from grading.board.store import put, tell
from utils.lab import LabError

if TYPE_CHECKING:
    from grading.board.app import Board

VERDICTS = {"withdraw": WITHDRAWN, "confirm": CONFIRMED, "restore": ""}
LONGEST = 500  # characters of a reason or a message


def decide(board: "Board", fields: dict[str, str]) -> str:
    """Withdraws, restores or confirms a result; the evidence stays, and the reason is shown."""
    handin, verdict = fields.get("handin", ""), fields.get("verdict", "")
    reason = " ".join(fields.get("reason", "").split())[:LONGEST]
    if verdict not in VERDICTS:
        raise LabError(f"expected {', '.join(VERDICTS)}, found {verdict[:40]!r}")
    if not reason:
        raise LabError("expected a reason, which the student is shown, found none: write one")
    with board.store.change() as db:
        if not db.execute("UPDATE results SET verdict = ?, reason = ? WHERE handin = ?",
                          (VERDICTS[verdict], reason, handin)).rowcount:
            raise LabError(f"expected a scored hand-in, found none with the id {handin[:40]!r}")
        tell(db, f"{verdict} {handin}: {reason}")
    return f"{handin}: {verdict}, {reason}"


def pause(board: "Board", fields: dict[str, str]) -> str:
    """Pauses the queue, or lets it go on; what runs is finished, and hand-ins are still accepted."""
    paused = fields.get("paused") == "1"
    with board.store.change() as db:
        put(db, "paused", "1" * paused)
        tell(db, "paused" if paused else "goes on")
    return "the queue is paused" if paused else "the queue goes on"


def message(board: "Board", fields: dict[str, str]) -> str:
    """Sets the line that all pages show."""
    text = " ".join(fields.get("message", "").split())[:LONGEST]
    board.store.put(message=text)
    return "the message is shown" if text else "no message is shown"


def again(board: "Board", fields: dict[str, str]) -> str:
    """Puts hand-ins that the grader failed back into the queue."""
    with board.store.change() as db:
        count = db.execute("UPDATE handins SET state = 'waiting', faults = 0, starts = 0, note = '' "
                           "WHERE state = 'failed'").rowcount
        tell(db, f"{count} hand-ins that the grader failed are tried again")
    return f"{count} hand-ins are tried again"


def link(board: "Board", fields: dict[str, str]) -> str:
    """Makes a student's link anew, and shows it once."""
    number = fields.get("number", "")
    return f"the new link of {number}, shown this once: {board.access.new_link(number)}"


def make_export(board: "Board", fields: dict[str, str]) -> str:
    """Writes the class's REPORT and the hand-ins that count."""
    made = export(board.store, board.course)
    return (f"{made.students} students: python -m grading report {made.report} makes the grades; {made.submissions} "
            "has the hand-ins, for grade")


ACTIONS: dict[str, Callable] = {"decide": decide, "pause": pause, "message": message, "again": again, "link": link,
                                "export": make_export}
