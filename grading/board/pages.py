"""The board's pages as HTML: rendered from the state alone, each whole."""
import json
import os
import shutil
import time
import unicodedata
from datetime import datetime
from pathlib import Path

from grading.board import queue
from grading.board.access import REFERENCE, Access
from grading.board.curve import steps
from grading.board.standings import Try, ranks, standings, tries
from grading.board.store import Store
from grading.board.worker import free, home
from grading.course import Course
from grading.records import clean, read_record, record_path, slug_of
from grading.report.keys import signing_key
from grading.report.pages import page
from grading.report.pages.charts import Point, scatter
from grading.report.pages.task import shown_task
from grading.report.receipts import sign
from utils.lab import LabError

STATIC = Path(__file__).with_name("static")
ASSETS = {"style.css": page.TEMPLATES / "style.css", "tables.js": page.TEMPLATES / "tables.js",
          "board.css": STATIC / "board.css", "live.js": STATIC / "live.js", "icon.svg": STATIC / "icon.svg"}
LONGEST_NICK = 24
ALIVE = 30.0  # seconds after which a silent worker is said to be gone


class Pages:
    """Makes pages. exact: the public split is one that students have; what: the words for it."""

    def __init__(self, store: Store, course: Course, access: Access, exact: bool, what: str) -> None:
        self.store, self.course, self.access, self.exact, self.what = store, course, access, exact, what
        self._kept: tuple[str, dict] = ("", {})
        self._plan: tuple[float, dict] = (-1e9, {})

    def render(self, template: str, person: dict | None, **values: object) -> str:
        values |= {"person": person, "form": self.access.form_key(person) if person else "", "course": self.course,
                   "message": self.store.get("message"), "paused": self.store.get("paused"), "exact": self.exact,
                   "what": self.what, "when": when, "span": span, "address": self.access.address}
        values.setdefault("version", self.store.get("version"))
        return page.environment(Path(__file__).with_name("templates")).get_template(template).render(values)

    def state(self) -> dict:
        """What the pages of everybody show, made anew when a score, a decision or a name has changed."""
        version, scores = self.store.get("version"), self.store.get("scores")
        if self._kept[0] != scores:
            found = standings(self.store, self.course, self.exact)
            self._kept = scores, {"standings": found, "plots": self._plots(found), "steps": self._steps(found)}
        return self._kept[1] | {"version": version}

    def _plots(self, found: object) -> list:
        points = [Point(row.best.nick, "", row.best.macs, row.best.kb, row.best.miou, row.best.fom, row.rank)
                  for row in found.rows if row.best.macs and row.best.kb]
        return [scatter(points), scatter(points, 400, 440, "narrow")] if points else []

    def _steps(self, found: object) -> list:
        led = [(one.scored, one.fom, one.nick) for one in found.history]
        return [steps(led, time.time()), steps(led, time.time(), 400, 300, "narrow")] if led else []

    def line(self, wanted: str = "") -> dict:
        """The queue: how many wait and run, how long the last waits, and why nothing happens where nothing does.

        The plan is of the last second, but one in which the hand-in `wanted` waits.
        """
        worker, (at, plan) = self.worker(), self._plan
        if time.monotonic() - at > 1 or (wanted and wanted not in plan):
            plan = queue.plan(self.store, worker["jobs"])
            self._plan = time.monotonic(), plan
        counts = {row["state"]: row["n"] for row in self.store.read(
            "SELECT state, COUNT(*) AS n FROM handins WHERE state IN ('waiting', 'running') GROUP BY state")}
        stopped = ("the teacher has paused it" if self.store.get("paused") else "the disk is full"
                   if not free(self.store.board) else "" if worker["alive"] else "the grader is starting")
        return {"plan": plan, "waiting": counts.get("waiting", 0), "running": counts.get("running", 0),
                "stopped": stopped, "longest": max((at for _, at in plan.values()), default=0.0)}

    def worker(self) -> dict:
        try:
            told = json.loads((self.store.board / "worker.json").read_text(encoding="ascii"))
            return {"alive": time.time() - told["at"] < ALIVE, "jobs": max(1, int(told["jobs"]))}
        except (OSError, ValueError, KeyError, TypeError):
            return {"alive": False, "jobs": 1}

    # --- everybody ---

    def board(self, person: dict | None) -> str:
        return self.render("board.html", person, live=True, queue=self.line(), **self.state())

    def enter(self, token: str) -> str:
        return self.render("enter.html", None, token=token[:100])

    def problem(self, line: str) -> str:
        return page.environment(Path(__file__).with_name("templates")).get_template("problem.html").render(line=line)

    # --- a student ---

    def rename(self, person: dict, nick: str) -> None:
        """Changes the name that others see. Raises LabError for one that is taken or cannot be shown."""
        nick = " ".join(unicodedata.normalize("NFKC", nick).split())
        if not 0 < len(nick) <= LONGEST_NICK or not nick.isprintable() or nick != str(page.text(nick).unescape()):
            raise LabError(f"expected a name of 1 to {LONGEST_NICK} characters that can be seen, found {nick[:40]!r}: "
                           "choose another")
        with self.store.change() as db:
            if db.execute("SELECT 1 FROM people WHERE nick = ? AND number != ?", (nick, person["number"])).fetchone():
                raise LabError(f"expected a name that nobody has, found {nick!r} taken: choose another")
            db.execute("UPDATE people SET nick = ? WHERE number = ?", (nick, person["number"]))

    def own(self, person: dict, told: str) -> str:
        number = person["number"]
        line, found = self.line(), {one.handin: one for one in tries(self.store, self.exact, number)}
        rows = self.store.read("SELECT * FROM handins WHERE student = ? ORDER BY place DESC LIMIT 200", number)
        mine = [row["id"] for row in rows]
        row = next((row for row in self.state()["standings"].rows if row.best.student == number), None)
        return self.render("own.html", person, live=True, queue=line, rows=rows, tries=found, row=row,
                           used=queue.used_today(self.store, number), told=self.told(told) if told in mine else "",
                           scored=any(ranks(one, self.course) or one.miou is not None for one in found.values()))

    def told(self, handin: str) -> str:
        """What a student is told of a hand-in, in a line."""
        row = self.store.one("SELECT * FROM handins WHERE id = ?", handin)
        if row["state"] == "waiting":
            place, at = self.line(handin)["plan"].get(handin, (0, 0.0))
            return f"accepted, place {place} in the queue, begins in about {span(at)}"
        if row["state"] == "done":
            one = next(one for one in tries(self.store, self.exact, row["student"]) if one.handin == handin)
            return f"scored: {outcome(one)}"
        return {"running": "it runs now", "failed": "the grader failed it, which costs no quota: your teacher is told",
                "replaced": row["note"]}[row["state"]]

    def status(self, person: dict) -> dict:
        """A student's hand-ins for programs."""
        rows = self.store.read("SELECT id, state FROM handins WHERE student = ? ORDER BY place DESC LIMIT 20",
                               person["number"])
        return {"nick": person["nick"], "handins": [
            {"id": row["id"], "state": row["state"], "told": self.told(row["id"])} for row in rows]}

    def one(self, person: dict, row: dict) -> str:
        """A hand-in, for its owner alone."""
        report = home(self.store.board, row["id"]) / "report"
        record, found = None, next((one for one in tries(self.store, self.exact, person["number"])
                                    if one.handin == row["id"]), None)
        if found:
            record = read_record(record_path(report, slug_of(person["number"])))
        files = home(self.store.board, row["id"]) / "in"
        return self.render("one.html", person, live=row["state"] in ("waiting", "running"), row=row, one=found,
                           told=self.told(row["id"]), record=record, task_of=lambda task: shown_task(task, report),
                           files=sorted(path.name for path in files.iterdir()) if files.is_dir() else [])

    def receipt(self, person: dict, row: dict) -> dict | None:
        """What was scored, signed as a class's receipts are; None while there is no result."""
        one = next((one for one in tries(self.store, self.exact, person["number"]) if one.handin == row["id"]), None)
        if one is None:
            return None
        record = read_record(record_path(home(self.store.board, row["id"]) / "report", slug_of(person["number"])))
        return sign(clean({
            "student": person["number"], "handin": row["id"], "accepted": when(row["accepted"]),
            "graded": when(one.scored), "sha256": row["sha256"], "files": record["files"],
            "grader": record["versions"]["lab"], "versions": record["versions"], "images": self.what,
            "state": one.state, "why": one.why, "standing": one.standing, "reason": one.reason, "miou": one.miou,
            "flops": one.macs, "size_kb": one.kb, "fom": one.fom}), signing_key())

    # --- the teacher ---

    def teacher(self, person: dict, told: str = "") -> str:
        names = {row["number"]: row for row in self.store.read("SELECT * FROM people")}
        every = tries(self.store, True)
        scored = {one.student for one in every if one.miou is not None and (
            self.course.baseline is None or one.scored <= self.course.baseline.timestamp())}
        disk = shutil.disk_usage(self.store.board)
        return self.render(
            "teacher.html", person, live=True, told=told, queue=self.line(), names=names, worker=self.worker(),
            load=os.getloadavg(), cores=os.cpu_count(), free=disk.free / 2**30,
            flagged=[(one, self.flags(one)) for one in every if one.standing == "unverified"],
            decided=[one for one in every if one.reason], proved=[one for one in every if one.standing == "proved"],
            failed=self.store.read("SELECT * FROM handins WHERE state = 'failed' ORDER BY place"),
            line=self.store.read("SELECT * FROM handins WHERE state IN ('running', 'waiting') ORDER BY state, place"),
            missing=[row for number, row in names.items() if row["kind"] == "student" and number not in scored],
            log=self.store.read("SELECT * FROM events ORDER BY rowid DESC LIMIT 30"), REFERENCE=REFERENCE)

    def flags(self, one: Try) -> list[str]:
        """The texts of what a person is asked about a hand-in."""
        try:
            record = read_record(record_path(home(self.store.board, one.handin) / "report", slug_of(one.student)))
        except LabError as error:
            return [str(error)]
        return [f"{flag.get('code')}: {flag.get('text')}" for flag in record["tasks"]["2"].get("flags") or []]


def outcome(one: Try) -> str:
    """A result in words."""
    if one.miou is None:
        return f"{page.STATE_WORDS.get(one.state, one.state)}: {one.why}"
    costs = f", {page.si(one.macs)} MACs, {page.kilobytes(one.kb)} KB" if one.macs and one.kb else ""
    fom = f", FoM {page.power(one.fom)}" if one.fom is not None else ", unranked"
    return f"mIoU {one.miou:.3f}{costs}{fom}, {one.standing}"


def when(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%b %d, %H:%M")


def span(seconds: float) -> str:
    """A time to wait, in words."""
    if seconds < 50:
        return f"{max(10, round(seconds, -1)):.0f} s" if seconds > 0 else "a moment"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
