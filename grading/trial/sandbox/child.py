"""A running child as its parent knows it: which processes it is made of, what they use, and their end."""
import contextlib
import json
import os
import signal
import subprocess
import time

from grading.trial.sandbox.pipes import Pipes
from grading.trial.sandbox.watchdog import Usage, alive, started, tree, usage
from utils.lab import LabError

PATIENCE = 10.0  # seconds that a killed process may take to be gone


class Child:
    """A running child: its outer process, which was started here, and its first process, under which all others are."""

    def __init__(self, process: subprocess.Popen, pipes: Pipes):
        self.process, self.pipes = process, pipes
        self._first = (process.pid, started(process.pid))

    def first(self) -> int:
        """The first process's id; the outer one's while there is no other."""
        # bubblewrap tells the first process of its PID namespace as JSON; at other levels nothing comes.
        told = self.pipes.info.data
        if self._first[0] == self.process.pid and told.rstrip().endswith(b"}"):
            pid = json.loads(told)["child-pid"]
            self._first = (pid, started(pid))
        return self._first[0]

    def kill(self) -> None:
        """Ends all of it and waits until it is gone: with its first process a PID namespace ends.

        Raises LabError where a process cannot be killed.
        """
        running = tree(self.process.pid) if self.process.poll() is None else []
        victims = [*((pid, started(pid)) for pid in running), (self.first(), self._first[1])]
        if self.process.poll() is None:
            self.process.kill()
        for pid, since in victims:
            if pid != self.process.pid and alive(pid, since):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None or any(alive(*victim) for victim in victims):
            if time.monotonic() > end:  # asleep in a driver, say
                raise LabError(f"expected a killed program to be gone, found it there after {PATIENCE:.0f} s: look at "
                               f"process {self.process.pid} and its children before grading goes on")
            time.sleep(0.002)

    def usage(self) -> Usage:
        return usage(tree(self.first()))
