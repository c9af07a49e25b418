"""What operators may do on the pages with events, pauses, keys, limits and endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from streams.admin.actions import Target
from streams.admin.queries import Queries, shown, sign_of
from streams.dashboard.board import Board
from streams.dashboard.deed import Deed, Table, acting, audit, role_of, who
from streams.dashboard.jobs import Jobs
from streams.dashboard.letter_deeds import DEFAULT_RATE, LetterDeeds
from streams.dashboard.reading import group_of, name_of
from streams.dashboard.roles import Role
from streams.errors import NotFound, NotWaiting
from streams.pipeline import Pipeline
from streams.policy.limit import Rate

_ATTRIBUTES = ("type", "tenant", "instance", "key", "subject", "source")


class Deeds:
    """Every deed on one server.

    Args:
        pipeline: open while they are done.
        render: makes a page of a template and its values.
        event_page: shows an event with its body.
        jobs: the replays that run.
        boards: what applications add.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        render: Callable[..., Response],
        event_page: Callable[..., Awaitable[Response]],
        jobs: Jobs,
        boards: Iterable[Board],
    ) -> None:
        self._pipeline = pipeline
        self._render = render
        self._event_page = event_page
        self._queries = Queries(pipeline)
        self._boards = list(boards)
        self.all: Table = LetterDeeds(pipeline, render, jobs).all() | {
            "reveal": (Role.ADMIN, self.reveal),
            "cancel": (role_of("cancel"), self.cancel),
            "run-now": (role_of("run-now"), self.run_now),
            "pause": (role_of("pause"), self.pause),
            "resume": (role_of("resume"), self.resume),
            "release": (role_of("release"), self.release),
            "skip": (role_of("skip"), self.skip),
            "limit": (role_of("limit"), self.limit),
        }
        for board in self._boards:
            self.all = dict(board.deeds) | self.all

    async def answer(self, request: Request, name: str) -> Response:
        """Ask about a deed, or do it if that was asked."""
        form = await request.form()
        deed = await self.all[name][1](request, form)
        if isinstance(deed, Response):
            return deed
        stream = name_of(request)
        if form.get("sure") != "yes":
            hidden = [
                (key, value)
                for key, value in form.multi_items()
                if key not in ("token", "sure", "rate")
            ]
            return self._render(
                request,
                "sure.html",
                deed=deed,
                name=name,
                stream=stream,
                hidden=hidden,
                rate=DEFAULT_RATE,
            )
        try:
            done = await deed.do()
        except NotWaiting:
            raise HTTPException(409) from None
        if isinstance(done, Response):
            return done
        return self._render(
            request, "done.html", what=deed.what, stream=stream, notice=done
        )

    async def reveal(self, request: Request, form: FormData) -> Deed:
        """One event with its body."""
        stream, ident = name_of(request), _ident(form)
        group, letter = (
            str(form.get("group", ""))[:100],
            str(form.get("letter", ""))[:60],
        )

        async def do() -> Response:
            page = await self._event_page(
                request, stream, ident, group=group, letter=letter, revealed=True
            )
            await audit(
                self._pipeline,
                stream,
                action="reveal",
                by=who(request),
                event=ident or letter,
            )
            return page

        return Deed(
            "Show the body", ident or letter, "The body is shown, unmasked.", do
        )

    async def cancel(self, request: Request, form: FormData) -> Deed:
        """Take out one event that is scheduled or waits for a retry."""
        return self._waiting("cancel", request, form)

    async def run_now(self, request: Request, form: FormData) -> Deed:
        """Let one event run before its time."""
        return self._waiting("run-now", request, form)

    def _waiting(self, name: str, request: Request, form: FormData) -> Deed:
        ident = _ident(form)
        given = {"id": ident, "group": str(form.get("group", ""))[:100]}
        return acting(name, self._target(request), given, what=ident)

    def _target(self, request: Request, group: str = "") -> Target:
        return Target(
            pipeline=self._pipeline,
            stream=name_of(request),
            group=group,
            by=who(request),
        )

    async def pause(self, request: Request, form: FormData) -> Deed:
        """Hold a group back, or what carries a value."""
        stream, reason = name_of(request), str(form.get("reason", ""))[:500]
        group = str(form.get("group", ""))[:100]
        attribute, value = (
            str(form.get("attribute", "")),
            str(form.get("value", "")).strip()[:500],
        )
        await self._pipeline.status().existing(stream)
        if group:
            await group_of(self._pipeline, stream, group)
        if attribute in _ATTRIBUTES and form.get("sign"):
            value = await self._signed(attribute, str(form.get("sign")))
        given = {"group": group, "reason": reason}
        what = f"{stream}/{group}".rstrip("/")
        if attribute in _ATTRIBUTES and value:
            given |= {"attribute": attribute, "value": value}
            what += f" {attribute}={shown(value)}"
        return acting("pause", self._target(request), given, what=what)

    async def resume(self, request: Request, form: FormData) -> Deed:
        """Let what is paused go on."""
        target = self._target(request)
        await self._pipeline.status().existing(target.stream)
        for pause in await target.pauses().list():
            if sign_of(pause.scope) == form.get("pause"):
                break
        else:
            raise NotFound("no such pause")
        given: dict[str, Any] = {"group": pause.group, "level": pause.level}
        if pause.attribute:
            given |= {"attribute": pause.attribute, "value": pause.value}
        what = f"{target.stream} {shown(pause.scope)}"
        return acting("resume", target, given, what=what)

    async def release(self, request: Request, form: FormData) -> Deed:
        """Let a key whose event died go on, with that event first."""
        return await self._held("release", request, form)

    async def skip(self, request: Request, form: FormData) -> Deed:
        """Let a key whose event died go on, without that event."""
        return await self._held("skip", request, form)

    async def limit(self, request: Request, form: FormData) -> Deed:
        """Set a limit for all workers, or take back what was set."""
        target = await self._in_group(request, form)
        name = str(form.get("limit", ""))[:100]
        rate = str(form.get("limit_rate", "")).strip()[:60]
        if name not in [limit.name for limit in await target.limits().list()]:
            raise NotFound("no such limit")
        given, says = {"limit": name}, "What the handler declares holds again."
        if rate:
            Rate.parse(rate)  # Refused before the question is asked.
            given, says = given | {"rate": rate}, ""
        what = f"{target.stream}/{target.group} {name} {rate}"
        return acting("limit", target, given, what=what, says=says)

    async def _held(self, name: str, request: Request, form: FormData) -> Deed:
        target = await self._in_group(request, form)
        for row in await self._queries.held(target.stream, target.group):
            if sign_of(row.key) == form.get("key"):
                return acting(name, target, {"key": row.key}, what=shown(row.key))
        raise NotFound("no such key")

    async def _in_group(self, request: Request, form: FormData) -> Target:
        stream = name_of(request)
        wanted = str(form.get("group", ""))
        return self._target(request, await group_of(self._pipeline, stream, wanted))

    async def _signed(self, attribute: str, sign: str) -> str:
        """The value of an attribute that a button names by its sign."""
        for board in self._boards:
            for value in await board.values(attribute):
                if sign_of(value) == sign:
                    return value
        raise NotFound(f"no such {attribute}")


def _ident(form: FormData) -> str:
    ident = str(form.get("id", ""))[:500]
    if not ident.isprintable() or not (ident or form.get("letter")):
        raise NotFound("no such event")
    return ident
