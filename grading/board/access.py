"""Who a request is from: secret links, the cookie that a link sets, and limits on guessing.

A token is 32 random bytes. The state holds its SHA-256 alone; a link that is lost is made anew.
"""
import csv
import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request

from grading.board.store import Store, tell
from grading.intake.roster import Roster
from grading.report.pages.pseudonyms import pseudonyms
from utils.files import replacing

COOKIE = "board"
LINKS = "links.csv"
TEACHER_LINKS = "teacher-links.txt"
TEACHER, REFERENCE = "teacher", "reference"
MOST_FAILURES, WINDOW = 10, 60.0  # wrong tokens from one address, within so many seconds
MOST_ADDRESSES = 10_000
LONGEST = 100  # characters of a token that is looked at


def hash_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class Access:
    """Tells people by their tokens. address: what people type before a link's path, such as https://board.example."""

    def __init__(self, store: Store, address: str) -> None:
        self.store, self.address = store, address
        self.secure = address.startswith("https:")
        self._failures: dict[str, deque[float]] = {}

    def who(self, request: Request) -> dict | None:
        """The person whose token a request carries, as a cookie or as a bearer's; None for a request without one.

        Raises HTTPException 403 for a token of nobody's, and 429 after many of them from one address. A right token is
        taken even then, since a whole class may have one address.
        """
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if kind.lower() == "bearer" else request.cookies.get(COOKIE, "")
        return self.person(token, request) if token else None

    def person(self, token: str, request: Request) -> dict:
        found = hash_of(token[:LONGEST])
        row = self.store.one("SELECT * FROM people WHERE handle = ?", found[:16])
        if hmac.compare_digest(row["hash"] if row else "0" * 64, found) and row:
            return dict(row) | {"token": token}
        self._fail(request.client.host if request.client else "")
        raise HTTPException(403, "expected a link that is yours, found one that is nobody's: take it from the mail "
                                 "again, or ask for a new one")

    def _fail(self, address: str) -> None:
        now = time.monotonic()
        if len(self._failures) > MOST_ADDRESSES:
            self._failures.clear()
        recent = self._failures.setdefault(address, deque(maxlen=MOST_FAILURES))
        full = len(recent) == MOST_FAILURES and now - recent[0] < WINDOW
        recent.append(now)
        if full:
            raise HTTPException(429, "expected fewer wrong links, found too many from this address: wait a minute",
                                {"Retry-After": "60"})

    def form_key(self, person: dict) -> str:
        """What each form of this person's carries, so that no other site's form is taken for it."""
        return hmac.digest(person["token"].encode(), b"form", hashlib.sha256).hex()[:32]

    def check_form(self, person: dict, given: object) -> None:
        if not isinstance(given, str) or not hmac.compare_digest(self.form_key(person).encode(), given.encode()):
            raise HTTPException(403, "expected this page's own form, found another: open the page again")

    def new_link(self, number: str) -> str:
        """Makes a person's link anew; the older one ends."""
        token = secrets.token_urlsafe(32)
        with self.store.change() as db:
            if not db.execute("UPDATE people SET handle = ?, hash = ? WHERE number = ?",
                              (hash_of(token)[:16], hash_of(token), number)).rowcount:
                raise HTTPException(404, f"expected a student on the roster, found {number[:40]!r}")
            tell(db, f"a new link for {number}")
        return self.link(token)

    def link(self, token: str) -> str:
        return f"{self.address}/enter/{token}"


def enroll(store: Store, access: Access, roster: Roster | None) -> int:
    """Gives those a link who have none: teacher, reference and students of the roster; returns how many students.

    Links are written before they hold, so that none is ever lost: links.csv for a mail merge, teacher-links.txt.
    """
    known = {row["number"] for row in store.read("SELECT number FROM people")}
    students = [member for member in (roster.members if roster else ()) if member.number not in known]
    special = [kind for kind in (TEACHER, REFERENCE) if kind not in known]
    if not students and not special:
        return 0
    nicks = pseudonyms(store.board, {row["number"] for row in store.read("SELECT number FROM people")} |
                       {member.number for member in students})
    people, rows = [], []
    for number, name, kind, mail in [*((kind, kind, kind, "") for kind in special),
                                     *((one.number, one.name, "student", _mail(one.keys)) for one in students)]:
        token = secrets.token_urlsafe(32)
        nick = number if kind != "student" else nicks[number]
        people.append((number, name, kind, nick, hash_of(token)[:16], hash_of(token)))
        rows.append((number, name, mail, access.link(token)))
    _add_lines(store.board / TEACHER_LINKS, [f"{row[0]}: {row[3]}" for row in rows[:len(special)]])
    _add_rows(store.board / LINKS, rows[len(special):])
    with store.change() as db:
        db.executemany("INSERT INTO people (number, name, kind, nick, handle, hash) VALUES (?, ?, ?, ?, ?, ?)", people)
    return len(students)


def _mail(keys: Iterable[str]) -> str:
    return next((key for key in sorted(keys) if "@" in key), "")


def _add_lines(path: Path, lines: list[str]) -> None:
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if lines:
        with replacing(path) as temporary:
            temporary.write_text(before + "".join(f"{line}\n" for line in lines), encoding="utf-8")
        path.chmod(0o600)


def _add_rows(path: Path, rows: list[tuple[str, ...]]) -> None:
    before = list(csv.reader(path.open(encoding="utf-8-sig", newline=""))) if path.exists() else []
    with replacing(path) as temporary:
        with temporary.open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file).writerows([*(before or [("number", "name", "email", "link")]), *rows])
        temporary.chmod(0o600)
    path.chmod(0o600)
