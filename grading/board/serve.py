"""`python -m grading serve`: makes BOARD on first use, then serves it and keeps the worker that scores alive."""
import argparse
import asyncio
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from urllib.parse import urlsplit

import uvicorn
from filelock import FileLock, Timeout

from grading.board.access import LINKS, TEACHER_LINKS, Access, enroll
from grading.board.app import Board
from grading.board.protocol import PatientProtocol
from grading.board.store import NAME, Store
from grading.board.worker import WorkerSettings
from grading.course import read_course
from grading.intake.roster import read_roster
from grading.part import make_part
from utils.lab import ROOT, SPLITS, LabError

MOST_CONNECTIONS = 1000
GOODBYE = 20.0  # seconds that the worker has to end
AGAIN = (1.0, 60.0)  # seconds until a worker that died is started again, at first and at most


def serve(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C. Raises LabError for settings, a folder or data that cannot be."""
    split, share = public_split(args.public_split)
    address = (args.address or f"http://127.0.0.1:{args.port}").rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path:
        raise LabError(f"expected an address such as https://board.example.org, found {args.address!r}: pass what "
                       "students type before the path as --address")
    course = read_course(args.course)
    roster = read_roster(args.roster) if args.roster else None
    if roster is None and not (args.board / NAME).exists():
        raise LabError(f"expected --roster for a new board, found none, and no board at {args.board}: pass the class's "
                       "CSV")
    try:
        args.board.mkdir(parents=True, exist_ok=True, mode=0o700)
        (args.board / "handins").mkdir(exist_ok=True)
    except OSError as error:
        raise LabError(f"expected a folder for the board, found {error.strerror} at {args.board}: choose another"
                       ) from None
    try:
        with FileLock(args.board / ".board.lock", timeout=0, mode=0o600):
            store = Store(args.board)
            _keep_split(store, args.public_split)
            if share:
                make_part(args.board, share)
            access = Access(store, address)
            if count := enroll(store, access, roster):
                print(f"{count} links for students: {args.board / LINKS}; yours: {args.board / TEACHER_LINKS}")
            what = f"the split {split}" if split else f"a secret {share:.0%} of a reserved set"
            settings = WorkerSettings(
                str(args.board), str(args.data) if args.data else None, split, args.jobs, args.device, args.wall,
                int(args.memory * (1 << 30)) if args.memory else None, args.insecure,
                str(args.course) if args.course else None, args.trial)
            print(f"scores on {what}{', which students may see' if split else ''}; pages: {address}", flush=True)
            tempfile.tempdir = str(args.board / "incoming")  # where Starlette keeps the parts of a form
            board = Board(store, course, access, split is not None, what)
            return asyncio.run(_run(board, args, settings))
    except Timeout:
        raise LabError(f"expected {args.board} for this server alone, found another that serves it: stop it first"
                       ) from None


def public_split(text: str) -> tuple[str | None, float]:
    """(split, 0.0) of a split's name, or (None, share) of a share such as 30%. Raises LabError."""
    if text in SPLITS:
        return text, 0.0
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not text.endswith("%") or not 0 < share < 1:
        raise LabError(f"expected --public-split {', '.join(SPLITS)}, or a share such as 30%, found {text!r}")
    return None, share


def _keep_split(store: Store, text: str) -> None:
    known = store.get("split")
    if known and known != text:
        raise LabError(f"expected --public-split {known}, with which this board began, found {text}: scores on "
                       "different images do not compare; begin another BOARD")
    if not known:
        store.put(split=text)


async def _run(board: Board, args: argparse.Namespace, settings: WorkerSettings) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4 * MOST_CONNECTIONS), hard), hard))
    proxied = board.access.address.startswith("https:")
    server = uvicorn.Server(uvicorn.Config(
        board.app(), http=PatientProtocol, ws="none", access_log=False, log_level="warning",
        limit_concurrency=MOST_CONNECTIONS, timeout_keep_alive=15, timeout_graceful_shutdown=3, server_header=False,
        proxy_headers=proxied, forwarded_allow_ips="127.0.0.1"))
    try:
        listening = socket.create_server((args.host, args.port))
    except OSError as error:
        raise LabError(f"expected to listen on {args.host} port {args.port}, found: {error.strerror}: choose another "
                       "--port") from None
    keeper = asyncio.create_task(_keep_worker(server, settings))
    try:
        await server.serve([listening])
    finally:
        keeper.cancel()
        status = (await asyncio.gather(keeper, return_exceptions=True))[0]
    return status if isinstance(status, int) else 0


async def _keep_worker(server: uvicorn.Server, settings: WorkerSettings) -> int:
    """Starts the worker, and again whenever it dies; a worker that ends by its own line of error ends the server."""
    pause = AGAIN[0]
    while True:
        begin = asyncio.get_running_loop().time()
        worker = subprocess.Popen([sys.executable, "-m", "grading.board.worker", settings.dump()], cwd=ROOT,
                                  start_new_session=True, stdin=subprocess.DEVNULL)
        try:
            while worker.poll() is None:
                await asyncio.sleep(0.2)
        finally:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                try:
                    worker.wait(GOODBYE)
                except subprocess.TimeoutExpired:
                    worker.kill()
        if worker.returncode == 2:
            server.should_exit = True
            return 2
        pause = AGAIN[0] if asyncio.get_running_loop().time() - begin > 60 else min(2 * pause, AGAIN[1])
        print(f"the worker ended with status {worker.returncode}: it is started again in {pause:.0f} s",
              file=sys.stderr, flush=True)
        await asyncio.sleep(pause)
