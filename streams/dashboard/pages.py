"""The pages: each reads what was asked, asks the server, and gives a template what it shows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from streams.admin.outcomes import Outcomes
from streams.admin.overview import StreamView
from streams.admin.queries import CHARTS, STATES, EntryPage, Queries, shown_meta
from streams.admin.searching import Search
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
        host: what they are made with.
        jobs: the replays that run.
        boards: what applications add, by their names.
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
        """Who works for which group."""
        workers = await self.queries.workers()
        return self._render(
            request, "workers.html", workers=workers, away=self.queries.away
        )

    async def consumer(self, request: Request) -> Response:
        """What one worker has in hand."""
        stream = name_of(request)
        group = await group_of(self._pipeline, stream, text(request, "group", 100))
        name = text(request, "name", 200)
        if not name.isprintable() or not name:
            raise NotFound("no such worker")
        items = await self.queries.in_hand(stream, group, name)
        said = [
            worker
            for worker in await self.queries.workers()
            if (worker.stream, worker.name) == (stream, name)
        ]
        if not items and not said:
            raise NotFound("no such worker")
        return self._render(
            request,
            "consumer.html",
            stream=stream,
            group=group,
            name=name,
            items=items,
            worker=next((worker for worker in said if worker.group == group), None),
        )

    async def doctor(self, request: Request) -> Response:
        """What is wrong with the server and its streams."""
        return self._render(
            request, "doctor.html", findings=await self._doctor.findings()
        )

    async def stream(self, request: Request) -> Response:
        """One stream, and a page of its entries in one state; of several partitions their sums, and the way to each."""
        partition = 0 if text(request, "partition", 4) == "0" else None
        view = await self.queries.stream(name_of(request), partition)
        name = view.row.stream
        # Of one that is not spread nobody need ask again.
        part = None if view.row.partitions else 0
        groups = [group.row.group for group in view.groups if group.row.group]
        group = choice(request, "group", ["", *groups]) or (groups[0] if groups else "")
        state = choice(request, "state", STATES)
        levels = sorted(
            {row.level for each in view.row.groups for row in each.levels}, reverse=True
        ) or [0]
        level = number(request, "level", _fullest(view, group, levels), -(2**53), 2**53)
        after, first = (
            position(request, "after"),
            number(request, "first", 0, 0, 10_000_000),
        )
        reach = choice(request, "reach", list(CHARTS))
        items, chart, limits, held = await asyncio.gather(
            # Pages of entries are of one partition each.
            self.queries.items(
                name,
                group,
                EntryPage(
                    state=state, level=level, after=after, first=first, most=_PAGE
                ),
            )
            if not view.row.partitions
            else _nothing(),
            self.queries.chart(name, group, reach, part) if group else _nothing(),
            self.queries.limits(name, group, part) if group else _nothing(),
            self.queries.held(name, group, part) if group else _nothing(),
        )
        return self._render(
            request,
            "stream.html",
            view=view,
            group=group,
            groups=groups,
            state=state,
            states=STATES,
            level=level,
            levels=levels,
            items=items,
            chart=chart,
            limits=limits,
            held=held,
            first=first,
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
        """An event by its id or by what it carries, or what an application knows by an id."""
        wanted, stream = text(request, "q", 500).strip(), text(request, "stream", 100)
        is_text = bool(wanted) and wanted.isprintable()
        found = await Search(self._pipeline).search(wanted, stream) if is_text else None
        known = await hits(self._boards, wanted) if is_text else []
        streams = await self.queries.names()
        return self._render(
            request,
            "search.html",
            wanted=wanted,
            stream=stream,
            streams=streams,
            found=found,
            hits=known,
        )

    async def dead(self, request: Request) -> Response:
        """A page of the dead letters of a group, by filters, with what became of those that were put back."""
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
        """What operators did."""
        known = await self.queries.names()
        stream = choice(request, "stream", known) if known else ""
        rows = (
            await self.queries.audit(stream, position(request, "before"), _PAGE)
            if stream
            else []
        )
        before = rows[-1][0] if len(rows) >= _PAGE else ""
        return self._render(
            request,
            "audit.html",
            streams=known,
            stream=stream,
            rows=rows,
            before=before,
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
        if letter:
            found = [
                await self.queries.letter(
                    stream, await group_of(self._pipeline, stream, group), letter
                )
            ]
        else:
            found = (
                await self.queries.find(stream, ident)
                if ident and ident.isprintable()
                else []
            )
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

    # --- live parts

    async def live_overview(self, request: Request) -> Response:
        """The overview, as it changes."""
        return await self._live(request, "overview", self._overview)

    async def live_workers(self, request: Request) -> Response:
        """Workers, as they change."""

        async def workers() -> dict[str, Any]:
            return {"workers": await self.queries.workers(), "away": self.queries.away}

        return await self._live(request, "workers", workers)

    async def live_stream(self, request: Request) -> Response:
        """The levels of a group, as they change."""
        stream, group = name_of(request), text(request, "group", 100)
        partition = 0 if text(request, "partition", 4) == "0" else None
        await self._known(stream, group)

        async def levels() -> dict[str, Any]:
            return {
                "view": await self.queries.stream(stream, partition),
                "group": group,
            }

        return await self._live(
            request, "stream", levels, stream, group, str(partition)
        )

    async def chart(self, request: Request) -> Response:
        """The chart of a group."""
        stream, wanted = name_of(request), text(request, "group", 100)
        group = wanted or next(iter(await self._known(stream)), "")
        if not group:
            raise NotFound("no group")
        await self._known(stream, group)
        reach = choice(request, "reach", list(CHARTS))
        partition = 0 if text(request, "partition", 4) == "0" else None

        async def drawn() -> str:
            chart = await self.queries.chart(stream, group, reach, partition)
            return self._host.fragment(request, "live/chart.html", chart=chart)

        key = self._host.key(request, "chart", stream, group, reach, str(partition))
        return Response(await self.live.rendered(key, drawn), media_type="text/html")

    async def _known(self, stream: str, group: str = "") -> list[str]:
        """The groups of a stream, as the last look at all of them knows: who makes up names makes no load.

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

    async def _live(
        self,
        request: Request,
        name: str,
        values: Callable[[], Awaitable[dict[str, Any]]],
        *key: str,
    ) -> Response:
        return await self._host.follow(request, f"live/{name}.html", values, *key)

    async def _overview(self) -> dict[str, Any]:
        return {"views": await self.queries.grouped(), "away": self.queries.away}


def _fullest(view: StreamView, group: str, levels: list[int]) -> int:
    """The level with the most to show."""
    counts = {
        row.level: row.waiting + row.processing + row.retrying
        for each in view.row.groups
        if each.group == group
        for row in each.levels
    }
    return max(levels, key=lambda level: counts.get(level, 0))


async def _nothing() -> list[Any]:
    return []
