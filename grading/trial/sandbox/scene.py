"""What the sandbox's probes aim at: secrets, listeners and another process, made for them and gone afterwards."""
import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grading.trial.sandbox.leftovers import temporary_folder
from utils.lab import ROOT


@dataclass
class Scene:
    """What the attacks aim at; all of it is made for them."""

    secret: str              # stands in every file that must not be read, and on the bystander's command line
    files: list[Path]        # secrets: in the home folder, in the folder for temporary files
    bystander: subprocess.Popen
    tcp: socket.socket
    unix: socket.socket
    path: Path               # the unix socket's

    @property
    def mark(self) -> str:
        """Half a secret: on every program's command line, and the name of the files that they try to write."""
        return f"lab-probe-{self.secret[:8]}"

    def aims(self) -> dict:
        places = [*{file.parent for file in self.files}, ROOT, ROOT / "utils", Path("/dev/shm"), Path("/")]
        return {"files": [str(path) for path in self.files], "port": self.tcp.getsockname()[1], "path": str(self.path),
                "folders": [str(ROOT), str(ROOT / "data"), str(ROOT / ".git")], "bystander": self.bystander.pid,
                "places": [str(place) for place in places], "name": self.mark}

    def heard(self) -> int:
        """How many connections reached the listeners."""
        count = 0
        for listener in (self.tcp, self.unix):
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()
                    count += 1
        return count

    def left_files(self) -> list[Path]:
        """What programs wrote outside, removed here."""
        left = [path for place in self.aims()["places"] if (path := Path(place, self.mark)).exists()]
        for path in left:
            path.unlink()
        return left

    def processes(self) -> list[int]:
        """The programs' processes that the host sees."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and self.mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return found


@contextlib.contextmanager
def make_scene() -> Iterator[Scene]:
    """Secrets in the user's home (where that can be written) and the temporary folder, listeners, a process."""
    secret = secrets.token_hex(16)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder("lab-scene-"))
        files = [folder / "secret"]
        if os.access(Path.home(), os.W_OK):
            files.append(stack.enter_context(temporary_folder(".lab-scene-", Path.home())) / "secret")
        for file in files:
            file.write_text(secret, encoding="utf-8")
        tcp, unix = stack.enter_context(socket.socket()), stack.enter_context(socket.socket(socket.AF_UNIX))
        tcp.bind(("127.0.0.1", 0))
        unix.bind(str(folder / "socket"))
        for listener in (tcp, unix):
            listener.listen(4)
            listener.setblocking(False)
        # It ends with this process, whatever ends that: its stdin does.
        bystander = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", secret],
                                     stdin=subprocess.PIPE)
        try:
            yield Scene(secret, files, bystander, tcp, unix, folder / "socket")
        finally:
            bystander.kill()
            bystander.stdin.close()
            bystander.wait()
