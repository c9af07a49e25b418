"""The pages: each reads its query, asks the server, and fills a template."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from streams.admin.outcomes import Outcomes
from streams.admin.queries import CHARTS, STATES, EntryPage, Queries, shown_meta
from streams.admin.searching import Search
from streams.admin.status import EntryState
from streams.dashboard.board import Board, Host, hits
from streams.dashboard.jobs import Jobs
from streams.dashboard.reading import (
    choice,
    filter_of,
    group_of,
    name_of,
    number,
    position,
    text,
)
from streams.dashboard.timeline import timeline, trace_of
from streams.doctor.shared import SharedDoctor
from streams.errors import NotFound

_PAGE = 50


class Pages:
    """The pages of one server.

    Args:
        host: gives the pipeline, templates and live parts.
        jobs: the replays that run.
        boards: the parts of applications, by their names.
    """

    def __init__(self, host: Host, jobs: Jobs, boards: Mapping[str, Board]) -> None:
        self._host = host
        self._pipeline = host.pipeline
        self._render = host.render
        self._jobs = jobs
        self._boards = boards
        self.live = host.live
        self.queries = Queries(host.pipeline)
        self._doctor = SharedDoctor(host.pipeline)

    async def overview(self, request: Request) -> Response:
        """Every stream and group at a glance."""
        return self._render(request, "overview.html", **await self._overview())

    async def workers(self, request: Request) -> Response:
        """The workers of every group."""
        return self._render(request, "workers.html", **await self._workers())

    async def consumer(self, request: Request) -> Response:
        """The events that one worker is running."""
        stream, name = name_of(request), text(request, "name", 200)
        group = await group_of(self._pipeline, stream, text(request, "group", 100))
        if not name.isprintable() or not name:
            raise NotFound("no such worker")

        items = await self.queries.in_hand(stream, group, name)
        said = {
            worker.group: worker
            for worker in await self.queries.workers()
            if (worker.stream, worker.name) == (stream, name)
        }

        if not items and not said:
            raise NotFound("no such worker")

        return self._render(
            request,
            "consumer.html",
            stream=stream,
            group=group,
            name=name,
            items=items,
            worker=said.get(group),
        )

    async def doctor(self, request: Request) -> Response:
        """The findings on the server and its streams."""
        findings = await self._doctor.findings()

        return self._render(request, "doctor.html", findings=findings)

    async def stream(self, request: Request) -> Response:
        """One stream, and a page of its entries in one state.

        Of several partitions it shows the sums, and the way to each.
        """
        partition = _first_partition(request)
        view = await self.queries.stream(name_of(request), partition)
        name, is_spread = view.row.stream, bool(view.row.partitions)
        # The server need not be asked again about partitions of a stream without any.
        part = None if is_spread else 0
        groups = [group.row.group for group in view.groups if group.row.group]
        group = choice(request, "group", ["", *groups]) or next(iter(groups), "")
        rows = [(each.group, row) for each in view.row.groups for row in each.levels]
        levels = sorted({row.level for _, row in rows}, reverse=True) or [0]
        counts = {
            row.level: row.waiting + row.processing + row.retrying
            for owner, row in rows
            if owner == group
        }

        fullest = max(levels, key=lambda level: counts.get(level, 0))
        page = EntryPage(
            state=choice(request, "state", STATES),
            level=number(request, "level", fullest, -(2**53), 2**53),
            after=position(request, "after"),
            first=number(request, "first", 0, 0, 10_000_000),
            most=_PAGE,
        )

        reach = choice(request, "reach", list(CHARTS))
        ask = self.queries
        # Pages of entries are of one partition each.
        items = [] if is_spread else await ask.items(name, group, page)
        chart, limits, held = (
            await asyncio.gather(
                ask.chart(name, group, reach, part),
                ask.limits(name, group, part),
                ask.held(name, group, part),
            )
            if group
            else ([], [], [])
        )

        return self._render(
            request,
            "stream.html",
            view=view,
            group=group,
            groups=groups,
            state=page.state,
            states=STATES,
            level=page.level,
            levels=levels,
            items=items,
            chart=chart,
            limits=limits,
            held=held,
            first=page.first,
            page=_PAGE,
            reach=reach,
            reaches=list(CHARTS),
            after=items[-1].listed.place if len(items) == _PAGE else "",
            partition=partition,
        )

    async def event(self, request: Request) -> Response:
        """One event: where it stands in every group, its metadata and its errors."""
        return await self.show_event(
            request,
            name_of(request),
            text(request, "id", 500),
            group=text(request, "group", 100),
            letter=position(request, "letter"),
            revealed=False,
        )

    async def search(self, request: Request) -> Response:
        """An event by its id or by a value that it carries, or a hit of an application."""
        wanted, stream = text(request, "q", 500).strip(), text(request, "stream", 100)
        is_text = bool(wanted) and wanted.isprintable()

        return self._render(
            request,
            "search.html",
            wanted=wanted,
            stream=stream,
            found=await Search(self._pipeline).search(wanted, stream)
            if is_text
            else None,
            hits=await hits(self._boards, wanted) if is_text else [],
            streams=await self.queries.names(),
        )

    async def dead(self, request: Request) -> Response:
        """A page of the dead letters of a group, by filters, and its replays."""
        stream = name_of(request)
        group = await group_of(self._pipeline, stream, text(request, "group", 100))
        where, given = filter_of(request.query_params)
        letters = self._pipeline.dead_letters(stream, group)
        page = await letters.look(where, after=position(request, "after"), limit=_PAGE)

        return self._render(
            request,
            "dead.html",
            stream=stream,
            group=group,
            letters=page.letters,
            given=given,
            count=await letters.count(),
            after=page.next,
            jobs=self._jobs.of(stream, group),
            replays=await Outcomes(self._pipeline, stream).replays(group),
            notice=text(request, "notice", 20),
            moved=number(request, "moved", 0, 0, 10_000_000),
        )

    async def audit(self, request: Request) -> Response:
        """The actions of operators on a stream."""
        known, rows = await self.queries.names(), []
        stream = choice(request, "stream", known) if known else ""
        if stream:
            before = position(request, "before")
            rows = await self.queries.audit(stream, before, _PAGE)

        return self._render(
            request,
            "audit.html",
            streams=known,
            stream=stream,
            rows=rows,
            before=rows[-1][0] if len(rows) >= _PAGE else "",
        )

    async def show_event(
        self,
        request: Request,
        stream: str,
        ident: str,
        *,
        group: str,
        letter: str,
        revealed: bool,
    ) -> Response:
        """The page of one event, named by an id, or as a dead letter."""
        found: list[EntryState] = []
        if letter:
            group = await group_of(self._pipeline, stream, group)
            found = [await self.queries.letter(stream, group, letter)]
        elif ident and ident.isprintable():
            found = await self.queries.find(stream, ident)

        if not found:
            raise NotFound("no such event")

        whys = {} if letter else await self.queries.why(stream, ident)
        body = found[0].raw.decode("utf-8", "replace")[:100_000] if revealed else ""

        return self._render(
            request,
            "event.html",
            stream=stream,
            ident=ident,
            letter=letter,
            group=group,
            states=found,
            meta=shown_meta(found[0].meta),
            revealed=revealed,
            body=body,
            rows=timeline(found),
            trace=trace_of(found[0].meta),
            whys=whys,
        )

    async def live_overview(self, request: Request) -> Response:
        """The overview, as it changes."""
        return await self._host.follow(request, "live/overview.html", self._overview)

    async def live_workers(self, request: Request) -> Response:
        """Workers, as they change."""
        return await self._host.follow(request, "live/workers.html", self._workers)

    async def live_stream(self, request: Request) -> Response:
        """The levels of a group, as they change."""
        stream, group = name_of(request), text(request, "group", 100)
        partition = _first_partition(request)
        await self._known(stream, group)

        async def levels() -> dict[str, Any]:
            view = await self.queries.stream(stream, partition)
            return {"view": view, "group": group}

        return await self._host.follow(
            request, "live/stream.html", levels, stream, group, str(partition)
        )

    async def chart(self, request: Request) -> Response:
        """The chart of a group."""
        stream, wanted = name_of(request), text(request, "group", 100)
        group = wanted or next(iter(await self._known(stream)), "")
        if not group:
            raise NotFound("no group")

        await self._known(stream, group)
        reach = choice(request, "reach", list(CHARTS))
        partition = _first_partition(request)

        async def drawn() -> str:
            chart = await self.queries.chart(stream, group, reach, partition)
            return self._host.fragment(request, "live/chart.html", chart=chart)

        key = self._host.key(request, "chart", stream, group, reach, str(partition))

        return HTMLResponse(await self.live.rendered(key, drawn))

    async def _known(self, stream: str, group: str = "") -> list[str]:
        """The groups of a stream, as the last look at all of them knows.

        So a viewer who makes up names makes no load.

        Raises:
            NotFound: there is no such stream or group.
        """
        views = [*await self.queries.grouped(), *await self.queries.overview()]
        found = next((view for view in views if view.row.stream == stream), None)
        if found is None:
            raise NotFound("no such stream")

        groups = [row.row.group for row in found.groups if row.row.group]
        if group and group not in groups:
            raise NotFound("no such group")

        return groups

    async def _overview(self) -> dict[str, Any]:
        return {"views": await self.queries.grouped(), "away": self.queries.away}

    async def _workers(self) -> dict[str, Any]:
        return {"workers": await self.queries.workers(), "away": self.queries.away}


def _first_partition(request: Request) -> int | None:
    """0 for the first partition alone, whose name is that of the stream; else None."""
    return 0 if request.query_params.get("partition") == "0" else None
