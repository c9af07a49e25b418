"""The pages: each reads what was asked, asks the server, and gives a template what it shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from streams.broker.listing import Listing
from streams.dashboard.guard import Viewer
from streams.dashboard.reading import choice, name_of, number, position, text
from streams.dashboard.whatsapp import WhatsAppQueries
from streams.dead_letters import DeadLetters, Filter
from streams.errors import NotCancelled, NotFound
from streams.pipeline import Pipeline
from streams.queries import STATES, Queries, StreamView, shown_meta, sign_of

Render = Callable[..., Response]
_PAGE = 50
_MOST_COUNTED = 10_000
_REPLAYED_PER_SECOND = 200.0


class Pages:
    """The pages of one server.

    Args:
        pipeline: open while they are asked.
        render: makes a page of a template and its values.
    """

    def __init__(self, pipeline: Pipeline, render: Render) -> None:
        self._pipeline = pipeline
        self._render = render
        self.queries = Queries(pipeline)
        self._whatsapp = WhatsAppQueries(pipeline)

    # --- to look at

    async def overview(self, request: Request) -> Response:
        """Every stream and group at a glance."""
        return self._render(request, "overview.html", views=await self.queries.overview())

    async def workers(self, request: Request) -> Response:
        """Who works for which group."""
        return self._render(request, "workers.html", workers=await self.queries.workers())

    async def doctor(self, request: Request) -> Response:
        """What is wrong with the server and its streams."""
        return self._render(request, "doctor.html", findings=await self.queries.findings())

    async def stream(self, request: Request) -> Response:
        """One stream, and a page of its entries in one state."""
        view = await self.queries.stream(name_of(request))
        groups = [group.row.group for group in view.groups if group.row.group]
        group = choice(request, "group", ["", *groups]) or (groups[0] if groups else "")
        state = choice(request, "state", STATES)
        levels = sorted({row.level for each in view.row.groups for row in each.levels}, reverse=True) or [0]
        level = number(request, "level", _fullest(view, group, levels), -(2**53), 2**53)
        after, first = position(request, "after"), number(request, "first", 0, 0, 10_000_000)
        items, chart, limits, held = await asyncio.gather(
            self.queries.items(view.row.stream, group, state, level, after=after, first=first, most=_PAGE),
            self.queries.chart(view.row.stream, group) if group else _nothing(),
            self.queries.limits(view.row.stream, group) if group else _nothing(),
            self.queries.held(view.row.stream, group) if group else _nothing(),
        )
        return self._render(
            request, "stream.html", view=view, group=group, groups=groups, state=state, states=STATES, level=level,
            levels=levels, items=items, chart=chart, limits=limits, held=held, first=first, page=_PAGE,
            after=items[-1].listed.place if len(items) == _PAGE else "",
        )  # fmt: skip

    async def event(self, request: Request) -> Response:
        """One event: where it stands in every group, its metadata and its errors."""
        return await self._event(request, name_of(request), text(request, "id", 500), revealed=False)

    async def search(self, request: Request) -> Response:
        """An event on any stream, or a message by its provider's id."""
        wanted = text(request, "q", 500).strip()
        found = await self.queries.search(wanted) if wanted.isprintable() and wanted else []
        message = await self._whatsapp.message(wanted) if wanted and wanted.isprintable() and not found else None
        return self._render(request, "search.html", wanted=wanted, found=found, message=message)

    async def dead(self, request: Request) -> Response:
        """A page of the dead letters of a group, by filters."""
        stream = name_of(request)
        group = await self._group(request, stream)
        where, given = _filter(request.query_params)
        letters = DeadLetters(self._pipeline.broker, stream, group)
        found = await letters.page(where, after=position(request, "after"), limit=_PAGE)
        return self._render(
            request, "dead.html", stream=stream, group=group, letters=found, given=given, count=await letters.count(),
            after=found[-1].id if len(found) == _PAGE else "", notice=text(request, "notice", 20),
            moved=number(request, "moved", 0, 0, 10**9),
        )  # fmt: skip

    async def audit(self, request: Request) -> Response:
        """What operators did."""
        known = sorted(await self._pipeline.status().streams())
        stream = choice(request, "stream", known) if known else ""
        rows = await self.queries.audit(stream, position(request, "before"), _PAGE) if stream else []
        return self._render(
            request,
            "audit.html",
            streams=known,
            stream=stream,
            rows=rows,
            before=rows[-1][0] if len(rows) == _PAGE else "",
        )

    async def whatsapp(self, request: Request) -> Response:
        """Instances, and what became of the messages of today, by tenant."""
        return self._render(request, "whatsapp.html", **await self._whatsapp.overview())

    async def message(self, request: Request) -> Response:
        """One message, with its timeline."""
        ident = text(request, "id", 500)
        message = await self._whatsapp.message(ident) if ident else None
        if message is None:
            raise NotFound("no such message")
        return self._render(request, "message.html", message=message)

    # --- to act

    async def reveal(self, request: Request) -> Response:
        """One event with its body, which is written down."""
        stream, form = name_of(request), await request.form()
        ident = str(form.get("id", ""))[:500]
        listing = Listing(self._pipeline.broker, self._pipeline.broker.keys(stream))
        if not ident.isprintable() or not await self.queries.find(stream, ident):
            raise NotFound("no such event")
        await listing.write_audit(action="reveal", by=_who(request), event=ident)
        return await self._event(request, stream, ident, revealed=True)

    async def replay(self, request: Request) -> Response:
        """Put dead letters back: those that were selected, or all that match; asked first, then done."""
        return await self._with_letters(request, "replay")

    async def discard(self, request: Request) -> Response:
        """Delete dead letters; asked first, then done."""
        return await self._with_letters(request, "discard")

    async def cancel(self, request: Request) -> Response:
        """Take out one event that is scheduled or waits for a retry."""
        stream, form = name_of(request), await request.form()
        ident, group = str(form.get("id", ""))[:500], str(form.get("group", ""))[:100]
        if not ident or not ident.isprintable():
            raise HTTPException(400)
        try:
            await self._pipeline.cancel(stream, ident, group, by=_who(request))
        except NotCancelled:
            raise HTTPException(409) from None
        return self._render(request, "done.html", what=ident, notice="was cancelled", stream=stream)

    async def pause(self, request: Request) -> Response:
        """Hold a stream or a group of it."""
        return await self._hold(request, resumes=False)

    async def resume(self, request: Request) -> Response:
        """Let it go on."""
        return await self._hold(request, resumes=True)

    async def release(self, request: Request) -> Response:
        """Let a key whose event died go on, with that event first."""
        return await self._let_go(request, skips=False)

    async def skip(self, request: Request) -> Response:
        """Let a key whose event died go on, without that event."""
        return await self._let_go(request, skips=True)

    async def _let_go(self, request: Request, *, skips: bool) -> Response:
        stream, form = name_of(request), await request.form()
        group = await self._group(request, stream, given=str(form.get("group", "")))
        keys = self._pipeline.ordered_keys(stream, group, by=_who(request))
        found = [row.key for row in await self.queries.held(stream, group) if sign_of(row.key) == form.get("key")]
        if not found:
            raise NotFound("no such key")
        if skips:
            await keys.skip(found[0])
        else:
            await keys.release(found[0])
        return self._render(request, "done.html", what=found[0], stream=stream, notice="goes on")

    async def _hold(self, request: Request, *, resumes: bool) -> Response:
        stream, form = name_of(request), await request.form()
        if stream not in await self._pipeline.status().streams():
            raise NotFound("no such stream")
        pauses = self._pipeline.pauses(stream, by=_who(request))
        if resumes:
            wanted = str(form.get("pause", ""))
            found = [pause for pause in await pauses.list() if sign_of(pause.scope) == wanted]
            if not found:
                raise NotFound("no such pause")
            (pause,) = found
            where: dict[str, Any] = {pause.attribute: pause.value} if pause.attribute else {}
            await pauses.resume(group=pause.group, level=pause.level, **where)
            what = stream
        else:
            group, reason = str(form.get("group", ""))[:100], str(form.get("reason", ""))[:500]
            await pauses.pause(group=group, reason=reason)
            what = f"{stream}/{group}".rstrip("/")
        notice = "goes on" if resumes else "is paused"
        return self._render(request, "done.html", what=what, stream=stream, notice=notice)

    async def _with_letters(self, request: Request, action: str) -> Response:
        stream, form = name_of(request), await request.form()
        group = await self._group(request, stream, given=str(form.get("group", "")))
        where, given = _filter(form)
        idents = [str(ident)[:60] for ident in form.getlist("letter")][:1000]
        letters = DeadLetters(self._pipeline.broker, stream, group, by=_who(request))
        which = idents if form.get("scope") == "selected" else where
        if form.get("sure") != "yes":
            count = (
                len(idents)
                if which is idents
                else (await letters.replay(where, dry_run=True, limit=_MOST_COUNTED)).matched
            )
            return self._render(
                request, "sure.html", action=action, stream=stream, group=group, given=given, idents=idents,
                scope="selected" if which is idents else "all", count=count, is_more=count >= _MOST_COUNTED,
            )  # fmt: skip
        try:
            if action == "replay":
                rate = _REPLAYED_PER_SECOND if which is where else None
                moved = len((await letters.replay(which, rate=rate, limit=1000)).moved)
            else:
                moved = await letters.discard(which)
        except NotFound:
            raise HTTPException(409) from None  # Somebody else was faster.
        root = request.scope.get("root_path", "")
        return RedirectResponse(f"{root}/streams/{stream}/dead?group={group}&notice={action}&moved={moved}", 303)

    async def _event(self, request: Request, stream: str, ident: str, *, revealed: bool) -> Response:
        found = await self.queries.find(stream, ident) if ident and ident.isprintable() else []
        if not found:
            raise NotFound("no such event")
        body = found[0].raw.decode("utf-8", "replace")[:100_000] if revealed else ""
        return self._render(
            request, "event.html", stream=stream, ident=ident, states=found, meta=shown_meta(found[0].meta),
            revealed=revealed, body=body,
        )  # fmt: skip

    async def _group(self, request: Request, stream: str, given: str = "") -> str:
        row = await self._pipeline.status().stream(stream)
        groups = [group.group for group in row.groups if group.group]
        wanted = given or text(request, "group", 100)
        if wanted and wanted not in groups:
            raise NotFound("no such group")
        if not groups:
            raise NotFound("no group")
        return wanted or groups[0]


def _fullest(view: StreamView, group: str, levels: list[int]) -> int:
    """The level with the most to show."""
    counts = {
        row.level: row.waiting + row.processing + row.retrying
        for each in view.row.groups
        if each.group == group
        for row in each.levels
    }
    return max(levels, key=lambda level: counts.get(level, 0))


def _filter(given: Any) -> tuple[Filter, dict[str, str]]:
    """The filter of a form or query, and what was given of it."""
    values = {
        name: str(given.get(name, ""))[:200].strip() for name in ("type", "reason", "error", "tenant", "event_id")
    }
    where = Filter(
        type=values["type"] or None,
        reason=values["reason"] or None,
        error=values["error"] or None,
        tenant=values["tenant"] or None,
        event_id=values["event_id"] or None,
    )
    return where, values


def _who(request: Request) -> str:
    viewer: Viewer = request.scope["viewer"]
    return f"dashboard: {viewer.name or 'somebody on this machine'}"


async def _nothing() -> list[Any]:
    return []
