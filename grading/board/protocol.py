"""HTTP for people who are not trusted: heads and bodies have limits in time and size, answers have strict headers.

uvicorn has no such limits: a client that sends a byte a minute would keep its connection for ever (slow loris).
"""
import asyncio
import time
from collections.abc import Awaitable, Callable

import anyio
import h11
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
BODY_SECONDS, SILENT_SECONDS = 300.0, 20.0  # for a whole body, and between two parts of it
LARGEST_UPLOAD, LARGEST_FORM = 256 << 20, 64 << 10  # bytes
UPLOADS = ("/me/handin", "/api/handin")
CLOSE = {"Connection": "close"}  # what was not read of a body is no next request
HEADERS = {"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                                      "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
           "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
           "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
           "Cache-Control": "no-store"}


class PatientProtocol(H11Protocol):
    """uvicorn's protocol with a limit on the time for a request's head."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head is not None:
            self._head.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        waits = self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE
        if not waits and self._head is not None:
            self._head.cancel()
            self._head = None
        elif waits and self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.close)


class Guard:
    """Adds HEADERS to every answer, and bounds the bytes and the time of every request's body.

    What exceeds them is raised as HTTPException where the body is read.
    """

    def __init__(self, app: Callable[..., Awaitable]) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        async def sending(message: dict) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((name.lower().encode(), value.encode())
                                                             for name, value in HEADERS.items())]
            await send(message)

        await self.app(scope, bounded(scope, receive) if scope["type"] == "http" else receive, sending)


def bounded(scope: dict, receive: Callable) -> Callable:
    """`receive` with the limits for a body; what comes behind the body (a disconnection) may take any time."""
    largest = LARGEST_UPLOAD if scope["path"] in UPLOADS else LARGEST_FORM
    size, end, more = 0, time.monotonic() + BODY_SECONDS, True

    async def receiving() -> dict:
        nonlocal size, more
        if not more:
            return await receive()
        try:
            with anyio.fail_after(max(0.0, min(SILENT_SECONDS, end - time.monotonic()))):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"expected the whole request within {BODY_SECONDS:.0f} s and without long "
                                     "silence, found a slower one: try again", CLOSE) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        if size > largest:
            raise HTTPException(413, f"expected at most {largest >> 10:,} KB, found more: hand in what is asked for "
                                     "alone", CLOSE)
        return message

    return receiving
