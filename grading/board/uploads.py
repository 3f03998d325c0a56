"""Takes what a student uploads: streamed to disk within limits, and read without running it.

An upload's own file names are never used for a path. A hand-in lies in BOARD/handins/ID/in, as handin.zip or as the
network file and the weights of task 2.
"""
import contextlib
import hashlib
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path, PurePosixPath

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from grading.board.protocol import CLOSE
from grading.board.worker import free, home
from grading.intake.opening import LARGEST
from grading.judge import Judge
from handin.findings import Finding
from handin.names import KINDS, PARTS, plain
from handin.unpack import DAMAGED, MOST_FILES, member_name, open_zip
from utils.lab import TASKS, LabError

MOST_AT_ONCE = 32        # uploads
JUDGES = 2               # processes that read files
JUDGING = 0.6            # seconds for which an answer waits for them
NAMES = ("network_task2.py", TASKS[2].model_file)
UNREADABLE = ("expected Python", "expected a network file", "expected a state_dict", "expected weights")


class Uploads:
    """The uploads of one server."""

    def __init__(self, board: Path) -> None:
        self.board, self._now = Path(board), set()
        self._readers = ThreadPoolExecutor(JUDGES)  # of threads that stay, since a process ends with its thread
        self.incoming = self.board / "incoming"
        shutil.rmtree(self.incoming, ignore_errors=True)  # what an earlier server was receiving
        self.incoming.mkdir()

    def open(self, known: set[str]) -> None:
        """Starts what reads files, and removes folders of uploads that were never accepted: `known` were."""
        for _ in range(JUDGES):
            self._readers.submit(read_files, {"network 2": Path(__file__)})
        for folder in (self.board / "handins").glob("*"):
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def one_of(self, student: str) -> Iterator[None]:
        """Holds a student's place among the uploads. Raises HTTPException where there is none."""
        if student in self._now:
            raise HTTPException(429, "expected one upload at a time, found another of yours: wait until it ends", CLOSE)
        if len(self._now) >= MOST_AT_ONCE:
            raise HTTPException(503, "expected fewer uploads at a time, found too many: try again in a minute", CLOSE)
        if not free(self.board):
            raise HTTPException(507, "expected space for hand-ins, found the board's disk full: tell your teacher",
                                CLOSE)
        self._now.add(student)
        try:
            yield
        finally:
            self._now.discard(student)

    async def receive_zip(self, request: Request) -> Path:
        """The body, which is a zip, as handin.zip in a new folder. Raises HTTPException."""
        folder = self._folder()
        try:
            with (folder / "handin.zip").open("wb") as file:
                async for part in request.stream():
                    await run_in_threadpool(file.write, part)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder

    async def receive_form(self, request: Request) -> tuple[dict[str, str], Path]:
        """A form's fields, and its files in a new folder: `zip`, or `network` and `weights`. Raises HTTPException."""
        async with request.form(max_files=3, max_fields=8, max_part_size=4096) as form:
            fields = {key: value for key, value in form.items() if isinstance(value, str)}
            files = {key: value for key, value in form.items() if isinstance(value, UploadFile) and value.filename}
            names = {"handin.zip": files.get("zip")} if "zip" in files else dict(zip(NAMES, (
                files.get("network"), files.get("weights")), strict=True))
            if None in names.values():
                raise HTTPException(422, "expected the zip of python -m handin pack, or the network file and the "
                                         "weights of task 2, found not all of these: choose the files again", CLOSE)
            folder = self._folder()
            try:
                for name, upload in names.items():
                    await run_in_threadpool(_copy, upload, folder / name)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return fields, folder

    def read(self, folder: Path) -> str:
        """The digest of the files in `folder`. Raises LabError for what can be told without running it."""
        digest = hashlib.sha256()
        for path in sorted(folder.iterdir()):
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                while part := file.read(1 << 20):
                    digest.update(part)
                os.fsync(file.fileno())
        if (archive := folder / "handin.zip").exists():
            read_zip(archive)
        else:
            self._judge({"network 2": folder / NAMES[0], "weights 2": folder / NAMES[1]})
        return digest.hexdigest()

    def keep(self, folder: Path) -> str:
        """Moves received files to their place; the new hand-in's id."""
        handin = secrets.token_hex(8)
        place = home(self.board, handin)
        place.mkdir(parents=True)
        folder.rename(place / "in")
        for directory in (place, place.parent):
            handle = os.open(directory, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        return handin

    def drop(self, handin: str) -> None:
        """Removes the files of a hand-in that was not accepted."""
        shutil.rmtree(home(self.board, handin), ignore_errors=True)

    def close(self) -> None:
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.incoming))

    def _judge(self, files: dict[str, Path]) -> None:
        """Has files read by a process that may be lost; where none is free or it takes long, the trial will do it."""
        reading = self._readers.submit(read_files, files)
        with contextlib.suppress(FutureTimeout):
            for finding in reading.result(JUDGING):
                if finding.level == "FAIL" and finding.text.startswith(UNREADABLE):
                    raise LabError(finding.text)
        reading.cancel()


_own = threading.local()  # a reader's process


def read_files(files: dict[str, Path]) -> list[Finding]:
    """The findings on files (subject -> path), by the process of this thread, which ends with its thread."""
    if not hasattr(_own, "judge"):
        _own.judge = Judge()
    return [finding for subject, path in files.items() for finding in _own.judge.judge(subject, path)[0]]


def _copy(upload: UploadFile, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file, 1 << 20)


def read_zip(archive: Path) -> None:
    """Raises LabError for a zip that is none, claims too much, leads out of its folder, or has no network to score."""
    try:
        with open_zip(archive) as file:
            members = file.infolist()
            names = [member_name(member) for member in members]
            size = sum(member.file_size for member in members)
            if len(members) > MOST_FILES or size > LARGEST:
                raise LabError(f"expected seven files, found {len(members):,} of {size / (1 << 30):.1f} GB: pack them "
                               "alone")
            outside = [name for name in names if name.startswith("/") or ".." in PurePosixPath(name).parts]
            if outside:
                raise LabError(f"expected names within the zip, found {outside[0][:80]!r}: pack it again")
            if any(member.flag_bits & 1 for member in members):
                raise LabError("expected a zip that opens for anyone, found a password on it: pack it without")
    except DAMAGED + (OSError,) as error:
        raise LabError(f"expected the zip of python -m handin pack, found a damaged one or another file ({error}): "
                       "pack it again") from None
    kinds = {KINDS.get(PurePosixPath(plain(PurePosixPath(name).name)).suffix) for name in names}
    if not {"network", "weights"} <= kinds:
        wanted = " and ".join(part.template for part in PARTS if part.task == 2 and part.kind in ("network", "weights"))
        raise LabError(f"expected {wanted} in the zip, found {', '.join(names)[:200] or 'nothing'}: pack it with "
                       "python -m handin pack")
