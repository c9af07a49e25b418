"""Live parts of pages: rendered once for all viewers, and sent to them as they change."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from streams.admin.overview import FRESH
from streams.common.log_facts import logger_of
from streams.dashboard.viewer import Viewer
from streams.errors import StreamsError

logger = logger_of("dashboard")
Render = Callable[[], Awaitable[str]]
_LASTS = 300.0
"""Seconds after which a stream ends: a viewer who opens it anew is checked again."""
_SILENT = 15.0
_MOST = 500
"""Streams that are open at once; later viewers ask every few seconds instead."""
_MOST_EACH = 100
"""Of these, those of one name."""


class _Shared:
    """One part of a page while it has viewers."""

    def __init__(self, render: Render) -> None:
        self.viewers = 0
        self.version = 0
        self.text = ""
        self.is_stale = False
        self._changed = asyncio.Event()
        self._render = render
        self._task = asyncio.create_task(self._run())

    async def change(self, seen: int) -> None:
        """Wait for what is newer than the version that was seen."""
        while self.version <= seen:
            await self._changed.wait()

    def close(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            try:
                self._tell(await self._render(), is_stale=False)
            except StreamsError as error:
                logger.debug("a live part waits", extra={"error": str(error)})
                self._tell(self.text, is_stale=True)

            await asyncio.sleep(FRESH)

    def _tell(self, text: str, *, is_stale: bool) -> None:
        if (text, is_stale) == (self.text, self.is_stale) and self.version:
            return

        self.text, self.is_stale = text, is_stale
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()


class Live:
    """Serves live parts, as server-sent events or one at a time.

    Each part is rendered every two seconds while it has viewers, once for all of them.
    A slow reader gets the latest and nothing in between. Viewers who ask for one at a
    time share the text of the last two seconds.
    """

    def __init__(self) -> None:
        self._parts: dict[Hashable, _Shared] = {}
        self._open: Counter[str] = Counter()
        self._asked: dict[Hashable, tuple[float, asyncio.Future[str]]] = {}

    @property
    def parts(self) -> int:
        """How many parts are rendered at the moment."""
        return len(self._parts)

    async def answer(self, request: Request, key: Hashable, render: Render) -> Response:
        """The part that ``key`` names, as the request asks for it."""
        if "text/event-stream" not in request.headers.get("accept", ""):
            return HTMLResponse(await self.rendered(key, render))

        viewer: Viewer | None = request.scope.get("viewer")
        name = viewer.name if viewer is not None else ""
        if self._open.total() >= _MOST or (name and self._open[name] >= _MOST_EACH):
            return Response("too many viewers", 503)

        events = self._events(key, render, name)

        return StreamingResponse(events, media_type="text/event-stream")

    async def rendered(self, key: Hashable, render: Render) -> str:
        """The part as it was in the last two seconds, rendered anew if it was not asked for."""
        now = time.monotonic()

        for old in [name for name, (at, _) in self._asked.items() if now - at > FRESH]:
            del self._asked[old]

        if key not in self._asked:
            self._asked[key] = (now, asyncio.ensure_future(render()))

        # A viewer who leaves meanwhile must not end it for the others.
        return await asyncio.shield(self._asked[key][1])

    async def _events(
        self, key: Hashable, render: Render, name: str = ""
    ) -> AsyncIterator[bytes]:
        if key not in self._parts:
            self._parts[key] = _Shared(render)

        part = self._parts[key]
        part.viewers += 1
        self._open[name] += 1

        try:
            seen, end = 0, time.monotonic() + _LASTS
            yield b"retry: 3000\n\n"

            while time.monotonic() < end:
                try:
                    async with asyncio.timeout(_SILENT):
                        await part.change(seen)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue

                seen = part.version
                yield _event("stale") if part.is_stale else _event("view", part.text)
        finally:
            self._open[name] -= 1
            self._open += Counter[str]()  # Without the names that are at 0.
            part.viewers -= 1
            if not part.viewers:
                del self._parts[key]
                part.close()


def _event(name: str, text: str = "") -> bytes:
    lines = "".join(f"data: {line}\n" for line in text.splitlines() or [""])
    return f"event: {name}\n{lines}\n".encode()
