"""A second process, in which the lab's settings for speed hold.

What training.step.speed_up tells the C library cannot be taken back, so the process that runs the other competitors
must never call it. Here roads of the tuned kind are prepared by a function, called by their names, and timed where they
run. Only one of the two processes works at a time.
"""
import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from benchmarks.measure import Cost, now
from benchmarks.setup import Cores, hold
from utils.lab import LabError


class Apart:
    """The process; it lasts until `close`."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), name="tuned")
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the new process keeps this: Ctrl-C is the parent's
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        theirs.close()

    def prepare(self, factory: Callable[..., dict[str, Callable[[], object]]], *arguments: object) -> None:
        """Calls `factory(*arguments)` there, which returns roads by their names. Both must be picklable."""
        self._ask("prepare", factory, arguments)

    def call(self, name: str, cores: Cores) -> object:
        """What the road `name` returns, which must be picklable."""
        return self._ask("run", name, cores)[1]

    def road(self, name: str, cores: Cores) -> Callable[[], Cost]:
        """The road `name` as a function that runs it there and returns what it cost there."""
        return lambda: self._ask("run", name, cores)[0]

    def close(self) -> None:
        self.connection.close()
        self.process.join(timeout=1)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()

    def _ask(self, *question: object) -> tuple:
        try:
            self.connection.send(question)
            answer = self.connection.recv()
        except (EOFError, BrokenPipeError):
            raise LabError("expected an answer of the benchmarks' second process, found it ended, most often for want "
                           "of memory: free some, or name fewer benchmarks") from None
        if isinstance(answer, LabError):
            raise answer
        if isinstance(answer, str):
            raise RuntimeError(f"in the benchmarks' second process:\n{answer}")
        return answer


def _serve(connection: Connection) -> None:
    roads = {}
    while True:
        try:
            what, *question = connection.recv()
        except EOFError:
            return
        try:
            if what == "prepare":
                factory, arguments = question
                roads.update(factory(*arguments))
                answer = ()
            else:
                name, cores = question
                with hold(cores):
                    started = now()
                    value = roads[name]()
                    answer = (now() - started, value)
        except LabError as error:
            answer = error
        except Exception:
            answer = traceback.format_exc()
        sys.stderr.flush()
        try:
            connection.send(answer)
        except BrokenPipeError:  # the parent was stopped meanwhile
            return
