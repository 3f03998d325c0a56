"""Works a list off in threads, each of which waits for a child most of its time; results come as they are done."""
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK = 0.5      # seconds between two looks at whether somebody takes too long
GOODBYE = 15.0  # seconds that workers have to put an end to their children


def work_off(items: Sequence[Item], work: Callable[[Item], Result], count: int, patience: float = float("inf"),
             stop: Callable[[], object] = lambda: None) -> Iterator[tuple[Item, Result | Exception]]:
    """Yields each item with `work`'s result, or with the exception that it raised, in the order of their ends.

    count: threads. patience: seconds after which an item is given up: it is yielded with a TimeoutError, its thread is
    left to itself and another takes its place. stop: called when the loop over the results ends early (Ctrl-C), to put
    an end to what the threads wait for; they are given some seconds then.
    """
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for number in range(len(items)):
        waiting.put(number)
    done: queue.SimpleQueue = queue.SimpleQueue()
    started: dict[int, float] = {}
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            started[number] = time.monotonic()
            try:
                result: object = work(items[number])
            except Exception as error:
                result = error
            except BaseException as error:  # an interruption that reached this thread: nothing more is begun
                stopped.set()
                done.put((number, error))
                return
            done.put((number, result))
            if number in given_up:
                return  # another thread has taken this one's place

    # Daemons: one that cannot be ended does not keep the process from its own end.
    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(count, len(items)))]
    open_items, given_up = set(range(len(items))), set()
    for thread in threads:
        thread.start()
    try:
        while open_items:
            with contextlib.suppress(queue.Empty):
                number, result = done.get(timeout=LOOK)
                if number in open_items:
                    open_items.discard(number)
                    if isinstance(result, BaseException) and not isinstance(result, Exception):
                        raise result
                    yield items[number], result
            now = time.monotonic()
            late = [number for number in open_items if now - started.get(number, now) > patience]
            for number in late:
                open_items.discard(number)
                given_up.add(number)
                threads.append(threading.Thread(target=run, daemon=True))
                threads[-1].start()
                yield items[number], TimeoutError(f"no end after {patience:,.0f} s")
    finally:
        stopped.set()
        if open_items:
            stop()
            end = time.monotonic() + GOODBYE
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))
