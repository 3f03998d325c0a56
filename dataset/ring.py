"""Batches for a GPU out of the computer's memory: gathered and copied by a thread while the GPU computes."""
import contextlib
import itertools
import queue
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dataset.batches import gather, new_buffer

RING = 3  # buffers: one is filled, one waits, one is copied


def through_ring(arrays: Sequence[np.ndarray], indices: Sequence[Tensor], device: torch.device, name: str
                 ) -> Iterator[list[Tensor]]:
    """Yields the images of each of `indices` on the device, as they are stored. The thread ends with the loop."""
    ready, stop = queue.Queue(maxsize=1), threading.Event()

    def put(item: object) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                return ready.put(item, timeout=0.1)

    def fill() -> None:
        try:
            on_gpu, size = device.type == "cuda", max(map(len, indices))
            ring = [_Slot(new_buffer(arrays, size, pinned=on_gpu)) for _ in range(min(RING, len(indices)))]
            stream = torch.cuda.Stream(device) if on_gpu else None  # copies beside the network's work
            for index, slot in zip(indices, itertools.cycle(ring)):
                if stop.is_set():
                    return
                slot.wait()
                put(slot.send(gather(slot.buffer, arrays, index), device, stream))
        except Exception as error:  # raised where the batches are used
            put(error)

    thread = threading.Thread(target=fill, name=name, daemon=True)
    thread.start()
    try:
        for _ in indices:
            sent = ready.get()
            if isinstance(sent, Exception):
                raise sent
            parts, copied = sent
            if copied:
                torch.cuda.current_stream(device).wait_event(copied)
                for part in parts:
                    part.record_stream(torch.cuda.current_stream(device))
            yield parts
    finally:
        stop.set()
        thread.join()


class _Slot:
    """A buffer of the ring, and the event after which the GPU has copied from it."""

    def __init__(self, buffer: list[Tensor]) -> None:
        self.buffer = buffer
        self.copied: torch.cuda.Event | None = None

    def send(self, parts: list[Tensor], device: torch.device, stream: torch.cuda.Stream | None
             ) -> tuple[list[Tensor], torch.cuda.Event | None]:
        """Copies on the device, and the event after which they are there; None on a CPU, where they are at once."""
        if stream is None:
            return [part.clone() for part in parts], None
        with torch.cuda.stream(stream):
            sent = [part.to(device, non_blocking=True) for part in parts]
            self.copied = torch.cuda.Event()
            self.copied.record(stream)
        return sent, self.copied

    def wait(self) -> None:
        """Returns when the buffer may be filled again."""
        if self.copied:
            self.copied.synchronize()
