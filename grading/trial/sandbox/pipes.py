"""The pipes between a child and its parent: what comes is kept up to a size, and never understood here."""
import contextlib
import os
import selectors
import time

CHUNK = 1 << 16
FLOOD = 64 << 20  # bytes thrown away after which a child is no longer listened to


class Channel:
    """One pipe from a child. Keeps the first `size` bytes of what comes, counts the rest."""

    def __init__(self, size: int):
        self.size, self.left_out, self._kept = size, 0, bytearray()
        self.source, self.sink = os.pipe()  # neither is inherited but by pass_fds
        os.set_blocking(self.source, False)

    @property
    def data(self) -> bytes:
        return bytes(self._kept)

    def keep(self, part: bytes) -> None:
        room = self.size - len(self._kept)
        self._kept += part[:room]
        self.left_out += max(len(part) - room, 0)


class Log(Channel):
    """Keeps the beginning and the end, where a traceback has its message: half of the size each."""

    def keep(self, part: bytes) -> None:
        self._kept += part
        extra = len(self._kept) - self.size
        if extra > 0:
            half = self.size // 2
            del self._kept[half:half + extra]
            self.left_out += extra

    def text(self) -> str:
        """Any bytes, decoded; where some were left out, a line says so. At most `size` bytes, the line apart."""
        if not self.left_out:
            return self.data.decode("utf-8", errors="replace")
        half = self.size // 2
        return "\n".join((self.data[:half].decode("utf-8", errors="replace"),
                          f"[{self.left_out} bytes left out]",
                          self.data[half:].decode("utf-8", errors="replace")))


class Pipes:
    """All pipes of one child, to be used in a with statement, from one thread."""

    def __init__(self, answer: int, report: int, log: int):
        self.answer, self.report, self.log = Channel(answer), Channel(report), Log(log)
        self.ready, self.info = Channel(16), Channel(4096)  # the sandbox's own word, before the program begins
        self._all = (self.answer, self.report, self.log, self.ready, self.info)
        self._selector = selectors.DefaultSelector()
        for channel in self._all:
            self._selector.register(channel.source, selectors.EVENT_READ, channel)
        self._sinks = [channel.sink for channel in self._all]

    def __enter__(self) -> "Pipes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close_sinks()
        self._selector.close()
        for channel in self._all:
            os.close(channel.source)

    def close_sinks(self) -> None:
        """The parent's copies of the ends that a child writes to; without this no pipe ever ends."""
        while self._sinks:
            os.close(self._sinks.pop())

    def pump(self, seconds: float) -> bool:
        """Reads a chunk of each pipe that has one, waiting at most `seconds` for the first; whether any had."""
        if not self._selector.get_map():
            time.sleep(min(seconds, 0.002))  # all have ended, and so will the child in a moment
            return False
        events = self._selector.select(seconds)
        for key, _ in events:
            with contextlib.suppress(BlockingIOError):
                part = os.read(key.fd, CHUNK)
                if part:
                    key.data.keep(part)
                else:
                    self._selector.unregister(key.fd)
        return bool(events)

    def drain(self) -> None:
        """Reads what is left when the child is gone."""
        while not self.flooded() and self.pump(0):
            pass

    def flooded(self) -> bool:
        """Whether the child sent more answer than it may, or so much of anything else that it cannot mean well."""
        return self.answer.left_out > 0 or self.log.left_out + self.report.left_out > FLOOD
