"""Works through a list in threads, each of which mostly waits for a child process; yields results as they come.

Own threads, since pebble's and concurrent.futures' can give up no single item: pebble would need a process for each
worker, with its own copy of the images.
"""
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Tool = TypeVar("Tool")

POLL = 0.5      # seconds between two checks whether an item takes too long
GOODBYE = 15.0  # seconds that threads have to end their child processes


def work_through(items: Sequence[Item], work: Callable[[Item, Tool], Result], tools: Sequence[Callable[[], Tool]],
                 patience: float = float("inf"), stop: Callable[[], object] = lambda: None
                 ) -> Iterator[tuple[Item, Result | Exception]]:
    """Yields each item with the result of `work(item, tool)`, or with the exception it raised, in order of completion.

    tools: one function for each thread; the thread calls it once for the tool that it alone uses. patience: seconds
    for an item; then it is yielded with a TimeoutError, and a new thread with a new tool replaces the one that hangs.
    stop: called when the loop over the results ends early (Ctrl-C), to end what the threads wait for.
    """
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for number in range(len(items)):
        waiting.put(number)
    done: queue.SimpleQueue = queue.SimpleQueue()
    running: dict[int, tuple[float, Callable[[], Tool]]] = {}  # item -> its start, and its thread's tool
    stopped = threading.Event()
    unfinished, given_up = set(range(len(items))), set()
    threads: list[threading.Thread] = []

    def run(make_tool: Callable[[], Tool]) -> None:
        tool = make_tool()
        while not stopped.is_set():
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            running[number] = time.monotonic(), make_tool
            try:
                result: object = work(items[number], tool)
            except BaseException as error:
                result = error
            done.put((number, result))
            if number in given_up:
                return  # another thread has taken its place
            if isinstance(result, BaseException) and not isinstance(result, Exception):
                stopped.set()  # an interruption reached this thread: nothing more begins

    def start(make_tool: Callable[[], Tool]) -> None:
        # A daemon: a thread that cannot be ended does not keep the process from its own end.
        threads.append(threading.Thread(target=run, args=(make_tool,), daemon=True))
        threads[-1].start()

    try:
        for make_tool in tools[:len(items)]:
            start(make_tool)
        while unfinished:
            with contextlib.suppress(queue.Empty):
                number, result = done.get(timeout=POLL)
                if number in unfinished:
                    unfinished.discard(number)
                    if isinstance(result, BaseException) and not isinstance(result, Exception):
                        raise result
                    yield items[number], result
            now = time.monotonic()
            for number in [number for number in unfinished if number in running]:
                begin, make_tool = running[number]
                if now - begin > patience:
                    unfinished.discard(number)
                    given_up.add(number)
                    start(make_tool)
                    yield items[number], TimeoutError(f"no end after {patience:,.0f} s")
    finally:
        stopped.set()
        if unfinished:
            stop()
            end = time.monotonic() + GOODBYE
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))
