"""Hands a packed zip in to the course's board, by HTTP.

    python -m handin submit                    # the newest Lab05_*.zip here; asks for your link the first time
    python -m handin submit Lab05_31355555.zip --replace --wait

The link, address and token in one, is kept in your home folder and readable by you alone.
"""
import getpass
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from utils.files import replacing
from utils.lab import LabError

KEPT = ".lab05-board"  # in the home folder
LINK = re.compile(r"(https?://[^/\s]+)/enter/([\w-]{20,100})")
SECONDS = 330.0        # for an upload; the board gives it 300
LOOK = 5.0             # seconds between two looks at what became of it
OVER = ("done", "failed", "replaced")


def submit(archive: Path | None, link: str | None, replace: bool, wait: bool) -> None:
    """Uploads the zip and prints what the board says of it; with `wait` also what came of it. Raises LabError."""
    archive = archive or _newest()
    if not archive.is_file():
        raise LabError(f"expected a zip that python -m handin pack made, found none at {archive}: check the path")
    address, token = _link(link)
    with archive.open("rb") as body:
        told = _ask(f"{address}/api/handin?replace={int(replace)}", token, body, archive.stat().st_size)
    print(f"{archive.name}: {told['told']}", flush=True)
    shown = told["told"]
    while wait:
        found = next((one for one in _ask(f"{address}/api/me", token)["handins"] if one["id"] == told["id"]), None)
        if found is None:
            raise LabError(f"expected the hand-in {told['id']} on the board, found others: look at {address}/me")
        if found["state"] in OVER:
            print(found["told"])
            return
        if found["told"] != shown:
            print(shown := found["told"], file=sys.stderr)
        time.sleep(LOOK)


def _newest() -> Path:
    found = sorted(Path().glob("Lab05_*.zip"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise LabError(f"expected a Lab05_*.zip, found none in {Path().absolute()}: make one with python -m handin "
                       "pack")
    return found[-1]


def _link(given: str | None) -> tuple[str, str]:
    """Address and token: from the link that is given, or kept, or asked for; a new one is kept."""
    path = Path.home() / KEPT
    kept = path.read_text(encoding="utf-8").strip() if given is None and path.is_file() else ""
    text = given or kept
    if not text:
        if not sys.stdin.isatty():
            raise LabError("expected your link to the board, found none: pass the one in your mail with --link")
        text = getpass.getpass("Your link to the board, from the mail (it is not shown): ")
    found = LINK.fullmatch(text.strip())
    if not found:
        where = f"in {path}: remove it" if kept else "in what you gave: copy it from the mail"
        raise LabError(f"expected a link such as https://board.example.org/enter/..., found something else {where}")
    if not kept:
        with replacing(path) as temporary:
            temporary.write_text(found[0] + "\n", encoding="utf-8")
            temporary.chmod(0o600)
        path.chmod(0o600)
    elif os.name == "posix" and path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return found[1], found[2]


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: the token is for this address alone."""

    def redirect_request(self, *_: object) -> None:
        return None


def _ask(url: str, token: str, body: object = None, size: int = 0) -> dict:
    """The board's answer. Raises LabError with the board's own line, or for what is no board's answer."""
    request = urllib.request.Request(url, body, {"Authorization": f"Bearer {token}"})
    if body is not None:
        request.add_header("Content-Type", "application/zip")
        request.add_header("Content-Length", str(size))
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        try:
            line = json.load(error)["error"]
        except (ValueError, KeyError, TypeError, OSError):
            line = f"expected an answer of the board, found HTTP status {error.code}: check the address in your link"
        raise LabError(str(line)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise LabError(f"expected an answer from {url.partition('/api')[0]}, found: {reason}: check the address, and "
                       "whether the board runs") from None
