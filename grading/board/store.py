"""The board's state: one SQLite file, in which every change of state is one transaction.

Server and worker share it. What was committed survives the end of both; what was not has never been.
"""
import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from utils.lab import LabError

NAME = "board.sqlite"
PATIENCE = 5.0  # seconds to wait for another's transaction
DAY = 86400.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS people (
  number TEXT PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, nick TEXT NOT NULL UNIQUE COLLATE NOCASE,
  handle TEXT NOT NULL UNIQUE, hash TEXT NOT NULL, turn INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS handins (
  place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, student TEXT NOT NULL REFERENCES people,
  sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, accepted REAL NOT NULL, state TEXT NOT NULL DEFAULT 'waiting',
  began REAL, ended REAL, turn_before INTEGER NOT NULL DEFAULT 0, starts INTEGER NOT NULL DEFAULT 0,
  faults INTEGER NOT NULL DEFAULT 0, note TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS by_state ON handins (state, student, place);
CREATE TABLE IF NOT EXISTS results (
  handin TEXT PRIMARY KEY REFERENCES handins (id), student TEXT NOT NULL, scored REAL NOT NULL, state TEXT NOT NULL,
  why TEXT NOT NULL, miou REAL, macs INTEGER, kb REAL, fom REAL, miou1 REAL, seconds REAL NOT NULL,
  verdict TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS events (at REAL NOT NULL, text TEXT NOT NULL);
INSERT OR IGNORE INTO meta VALUES ('scores', '0');
CREATE TRIGGER IF NOT EXISTS scored AFTER INSERT ON results BEGIN
  UPDATE meta SET value = value + 1 WHERE key = 'scores'; END;
CREATE TRIGGER IF NOT EXISTS decided AFTER UPDATE ON results BEGIN
  UPDATE meta SET value = value + 1 WHERE key = 'scores'; END;
CREATE TRIGGER IF NOT EXISTS renamed AFTER UPDATE OF nick ON people BEGIN
  UPDATE meta SET value = value + 1 WHERE key = 'scores'; END;
"""


class BusyError(LabError):
    """The state could not be read or changed now; nothing was changed, and it may work in a moment."""


class Store:
    """The state in BOARD, with a connection a thread."""

    def __init__(self, board: Path) -> None:
        self.board, self._local, self._writing = Path(board), threading.local(), threading.Lock()
        with self._told():
            self._connection().executescript(SCHEMA)

    def read(self, query: str, *values: object) -> list[sqlite3.Row]:
        """The rows that a query finds. Raises BusyError."""
        with self._told():
            return self._connection().execute(query, values).fetchall()

    def one(self, query: str, *values: object) -> sqlite3.Row | None:
        return next(iter(self.read(query, *values)), None)

    @contextlib.contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of the block or, where it raises, nothing. Raises BusyError."""
        with self._told(), self._writing:  # SQLite itself waits in steps of up to a tenth of a second
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                put(connection, "version", str(int(get(connection, "version", "0")) + 1))
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def get(self, key: str, default: str = "") -> str:
        with self._told():
            return get(self._connection(), key, default)

    def put(self, **values: str) -> None:
        with self.change() as connection:
            for key, value in values.items():
                put(connection, key, value)

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            connection = sqlite3.connect(self.board / NAME, PATIENCE, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")  # what was accepted survives a power cut
            self._local.connection = connection
        return self._local.connection

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise BusyError(f"expected the board's state to be free, found: {error}; nothing was changed: try again in "
                            "a minute") from None
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise LabError(f"expected the board's state, found {error} in {self.board / NAME}: restore it from a copy"
                           ) from None


def get(connection: sqlite3.Connection, key: str, default: str = "") -> str:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return row[0] if row else default


def put(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value))


def now(connection: sqlite3.Connection) -> float:
    """Seconds since 1970, which do not run backward where the machine's clock is set back by less than a day."""
    last, found = float(get(connection, "clock", "0")), time.time()
    found = last if last - DAY < found < last else found
    put(connection, "clock", repr(found))
    return found


def tell(connection: sqlite3.Connection, text: str) -> None:
    """Writes a line into the teacher's log."""
    connection.execute("INSERT INTO events VALUES (?, ?)", (now(connection), text))
