"""The board's addresses, and what holds for all of them: who may, which headers, how an error looks."""
import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from grading.board import queue
from grading.board.access import COOKIE, TEACHER, Access
from grading.board.pages import ASSETS, Pages
from grading.board.protocol import CLOSE, Guard
from grading.board.store import BusyError, Store
from grading.board.teacher import ACTIONS
from grading.board.uploads import Uploads
from grading.board.worker import home
from grading.course import Course
from utils.lab import LabError

WATCH = 0.5          # seconds between two looks at whether anything has changed
LEAST_BETWEEN = 2.0  # seconds between two events
MOST_LISTENERS = 500
PING = 15.0


class Board:
    """The answers to all requests. Functions without `async` run in threads, where they may wait for the state."""

    def __init__(self, store: Store, course: Course, access: Access, exact: bool, what: str) -> None:
        self.store, self.course, self.access = store, course, access
        self.uploads = Uploads(store.board)
        self.pages = Pages(store, course, access, exact, what)
        self.listeners, self.version = 0, ""
        self.changed = asyncio.Event()

    def app(self) -> Starlette:
        one = "/me/{handin:str}"
        routes = [Route("/", self.board), Route("/events", self.events), Route("/static/{name}", self.static),
                  Route("/enter/{token}", self.ask), Route("/enter", self.enter, methods=["POST"]),
                  Route("/leave", self.leave, methods=["POST"]), Route("/me", self.own), Route("/api/me", self.status),
                  Route("/me/nick", self.nick, methods=["POST"]), Route("/me/handin", self.hand_in, methods=["POST"]),
                  Route("/api/handin", self.hand_in, methods=["POST"]), Route(one, self.one),
                  Route(one + "/back", self.back, methods=["POST"]), Route(one + "/file/{name}", self.file),
                  Route(one + "/image/{name}", self.image), Route(one + "/receipt", self.receipt),
                  Route("/teacher", self.teacher), Route("/teacher/{action}", self.act, methods=["POST"])]
        hosts = {urlsplit(self.access.address).hostname or "localhost", "localhost", "127.0.0.1"}
        return Starlette(routes=routes, lifespan=self.life, middleware=[
            Middleware(Guard), Middleware(TrustedHostMiddleware, allowed_hosts=sorted(hosts), www_redirect=False)],
            exception_handlers={LabError: self.problem, HTTPException: self.problem, Exception: self.problem})

    @contextlib.asynccontextmanager
    async def life(self, _app: Starlette) -> AsyncIterator[None]:
        self.uploads.open({row["id"] for row in self.store.read("SELECT id FROM handins")})
        watch = asyncio.create_task(self.watch())
        try:
            yield
        finally:
            watch.cancel()
            self.uploads.close()

    # --- everybody ---

    def board(self, request: Request) -> Response:
        return HTMLResponse(self.pages.board(self.access.who(request)))

    def static(self, request: Request) -> Response:
        path = ASSETS.get(request.path_params["name"])
        if path is None:
            raise HTTPException(404, "expected a page of the board, found none at this address")
        return FileResponse(path)

    async def watch(self) -> None:
        """Wakes those who listen when the state has changed."""
        while True:
            with contextlib.suppress(BusyError):
                version = await run_in_threadpool(self.store.get, "version")
                if version != self.version:
                    self.version, changed, self.changed = version, self.changed, asyncio.Event()
                    changed.set()
                    await asyncio.sleep(LEAST_BETWEEN - WATCH)
            await asyncio.sleep(WATCH)

    async def events(self, request: Request) -> Response:
        """Server-sent events: one whenever a page should be loaded again."""
        if self.listeners >= MOST_LISTENERS:
            raise HTTPException(503, "expected fewer open pages, found too many: this one does not renew itself")

        async def stream() -> AsyncIterator[str]:
            self.listeners += 1
            try:
                yield f"retry: 5000\nevent: changed\ndata: {self.version}\n\n"  # of before this stream began
                while True:
                    with anyio.move_on_after(PING) as waited:
                        await self.changed.wait()
                    yield ": still here\n\n" if waited.cancelled_caught else f"event: changed\ndata: {self.version}\n\n"
            finally:
                self.listeners -= 1

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    # --- entering ---

    def ask(self, request: Request) -> Response:
        return HTMLResponse(self.pages.enter(request.path_params["token"]))

    async def enter(self, request: Request) -> Response:
        same_site(request)
        async with request.form(max_files=0, max_fields=2, max_part_size=4096) as form:
            token = str(form.get("token", ""))
        person = await run_in_threadpool(self.access.person, token, request)
        answer = RedirectResponse("/teacher" if person["kind"] == TEACHER else "/me", 303)
        answer.set_cookie(COOKIE, token, 180 * 86400, httponly=True, samesite="strict", secure=self.access.secure)
        return answer

    async def leave(self, request: Request) -> Response:
        await self.fields(request, await self.person(request))
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=self.access.secure)
        return answer

    async def person(self, request: Request, kind: str = "") -> dict:
        return await run_in_threadpool(self.someone, request, kind)

    def someone(self, request: Request, kind: str = "") -> dict:
        """Who is asking. Raises HTTPException for nobody, and where it is another's page."""
        person = self.access.who(request)
        if person is None:
            raise HTTPException(401, "expected you to have entered, found no link of yours: open the link in your mail")
        if (kind == TEACHER and person["kind"] != TEACHER) or (kind == "student" and person["kind"] == TEACHER):
            raise HTTPException(403, "expected a page of yours, found another's")
        return person

    async def fields(self, request: Request, person: dict) -> dict[str, str]:
        """The fields of a person's own form. Raises HTTPException for another site's."""
        same_site(request)
        async with request.form(max_files=0, max_fields=20, max_part_size=8192) as form:
            fields = {key: value for key, value in form.items() if isinstance(value, str)}
        self.access.check_form(person, fields.get("form"))
        return fields

    # --- students ---

    def own(self, request: Request) -> Response:
        return HTMLResponse(self.pages.own(self.someone(request, "student"), request.query_params.get("told", "")))

    def status(self, request: Request) -> Response:
        return JSONResponse(self.pages.status(self.someone(request, "student")))

    async def nick(self, request: Request) -> Response:
        person = await self.person(request, "student")
        fields = await self.fields(request, person)
        await run_in_threadpool(self.pages.rename, person, fields.get("nick", ""))
        return RedirectResponse("/me", 303)

    async def hand_in(self, request: Request) -> Response:
        """A hand-in as a form from the page, or as the zip itself with a bearer's token."""
        person = await self.person(request, "student")
        bare = request.url.path.startswith("/api/")
        if bare and not request.headers.get("authorization"):
            raise HTTPException(401, "expected a token, found none: python -m handin submit sends it", CLOSE)
        with self.uploads.one_of(person["number"]):
            if bare:
                folder, replace = await self.uploads.receive_zip(request), request.query_params.get("replace") == "1"
            else:
                same_site(request)
                fields, folder = await self.uploads.receive_form(request)
                replace = fields.get("replace") == "1"
            try:
                if not bare:
                    self.access.check_form(person, fields.get("form"))
                handin = await run_in_threadpool(self.take, person["number"], folder, replace)
            finally:
                await run_in_threadpool(shutil.rmtree, folder, True)
        told = await run_in_threadpool(self.pages.told, handin)
        return JSONResponse({"id": handin, "told": told}) if bare else RedirectResponse(f"/me?told={handin}", 303)

    def take(self, student: str, folder: Path, replace: bool) -> str:
        """Reads what was received and puts it into the queue; the hand-in's id. Raises LabError."""
        sha256 = self.uploads.read(folder)
        new = self.uploads.keep(folder)
        try:
            size = sum(path.stat().st_size for path in (home(self.store.board, new) / "in").iterdir())
            handin = queue.accept(self.store, student, new, sha256, size, self.course.quota, replace)
        except BaseException:
            self.uploads.drop(new)
            raise
        if handin != new:  # the same files are there already
            self.uploads.drop(new)
        return handin

    def mine(self, request: Request) -> tuple[dict, dict]:
        """The person who asks, and their own hand-in that the address names. Raises HTTPException."""
        person = self.someone(request, "student")
        row = self.store.one("SELECT * FROM handins WHERE id = ? AND student = ?", request.path_params["handin"],
                             person["number"])
        if row is None:
            raise HTTPException(404, "expected a hand-in of yours, found none at this address")
        return person, dict(row)

    def one(self, request: Request) -> Response:
        return HTMLResponse(self.pages.one(*self.mine(request)))

    async def back(self, request: Request) -> Response:
        person, row = await run_in_threadpool(self.mine, request)
        await self.fields(request, person)
        await run_in_threadpool(queue.take_back, self.store, row["id"], person["number"])
        return RedirectResponse("/me", 303)

    def file(self, request: Request) -> Response:
        _, row = self.mine(request)
        folder = home(self.store.board, row["id"]) / "in"
        return attached(folder, request.path_params["name"], "application/octet-stream")

    def receipt(self, request: Request) -> Response:
        found = self.pages.receipt(*self.mine(request))
        if found is None:
            raise HTTPException(404, "expected a hand-in that was scored, found one that waits: come back later")
        name = f"receipt-{request.path_params['handin']}.json"
        return JSONResponse(found, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    def image(self, request: Request) -> Response:
        _, row = self.mine(request)
        if not self.pages.exact:
            raise HTTPException(404, "expected a figure that may be shown, found one of the reserved images")
        folder = next((home(self.store.board, row["id"]) / "report" / "images").glob("*"), Path("none"))
        return attached(folder, request.path_params["name"], "image/png")

    # --- the teacher ---

    def teacher(self, request: Request) -> Response:
        return HTMLResponse(self.pages.teacher(self.someone(request, TEACHER)))

    async def act(self, request: Request) -> Response:
        person = await self.person(request, TEACHER)
        fields = await self.fields(request, person)
        action = ACTIONS.get(request.path_params["action"])
        if action is None:
            raise HTTPException(404, "expected something that a teacher can do, found none at this address")
        told = await run_in_threadpool(action, self, fields)
        return HTMLResponse(await run_in_threadpool(self.pages.teacher, person, told))

    # --- errors ---

    def problem(self, request: Request, error: Exception) -> Response:
        """An error as one line: JSON for programs, a page for people."""
        status = error.status_code if isinstance(error, HTTPException) else 503 if isinstance(error, BusyError) else \
            422 if isinstance(error, LabError) else 500
        line = "the board failed; nothing was changed: try again" if status == 500 else \
            str(getattr(error, "detail", error))
        headers = dict(getattr(error, "headers", None) or {}) | ({"Retry-After": "60"} if status == 503 else {})
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": line}, status, headers)
        return HTMLResponse(self.pages.problem(line), status, headers)


def same_site(request: Request) -> None:
    """Raises HTTPException for a form that the browser says is another site's."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "expected this page's own form, found another site's", CLOSE)


def attached(folder: Path, name: str, kind: str) -> Response:
    """A file that lies directly in `folder`, as a download or an image. Raises HTTPException for any other."""
    path = next((path for path in folder.iterdir() if path.name == name), None) if folder.is_dir() else None
    if path is None or path.is_symlink():
        raise HTTPException(404, "expected a file of yours, found none at this address")
    return FileResponse(path, media_type=kind, filename=name if kind != "image/png" else None)
