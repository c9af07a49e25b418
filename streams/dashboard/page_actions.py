"""Actions of operators on the pages: on events, pauses, keys and limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from streams.admin.actions import Target
from streams.admin.queries import Queries, shown, sign_of
from streams.dashboard.board import Board
from streams.dashboard.jobs import Jobs
from streams.dashboard.letter_actions import DEFAULT_RATE, LetterActions
from streams.dashboard.page_action import (
    Lookup,
    PageAction,
    Table,
    acting,
    audit,
    of_verbs,
    target_of,
    who,
)
from streams.dashboard.reading import filled, group_of, name_of
from streams.dashboard.roles import Role
from streams.errors import NotFound, NotWaiting
from streams.pipeline import Pipeline
from streams.policy.limit import Rate

_ATTRIBUTES = ("type", "tenant", "instance", "key", "subject", "source")


class PageActions:
    """The actions of operators on one server.

    Args:
        pipeline: open while they are done.
        render: makes a page of a template and its values.
        event_page: shows an event with its body.
        jobs: the replays that run.
        boards: the parts of applications.
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
        verbs: dict[str, Lookup] = {
            "cancel": partial(self._waiting, "cancel"),
            "run-now": partial(self._waiting, "run-now"),
            "pause": self.pause,
            "resume": self.resume,
            "release": partial(self._held, "release"),
            "skip": partial(self._held, "skip"),
            "limit": self.limit,
        }

        self.all: Table = LetterActions(pipeline, render, jobs).all() | {
            "reveal": (Role.ADMIN, self.reveal),
            **of_verbs(verbs),
        }

        for board in self._boards:
            self.all = dict(board.actions) | self.all

    async def answer(self, request: Request, name: str) -> Response:
        """Ask about an action, or do it if that was asked."""
        form = await request.form()
        action = await self.all[name][1](request, form)
        if isinstance(action, Response):
            return action

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
                action=action,
                name=name,
                stream=stream,
                hidden=hidden,
                rate=DEFAULT_RATE,
            )

        try:
            done = await action.do()
        except NotWaiting:
            raise HTTPException(409) from None

        if isinstance(done, Response):
            return done

        return self._render(
            request, "done.html", what=action.what, stream=stream, notice=done
        )

    async def reveal(self, request: Request, form: FormData) -> PageAction:
        """One event with its body."""
        stream, ident = name_of(request), _ident(form)
        group, letter = filled(form, "group"), filled(form, "letter", 60)
        event = ident or letter

        async def do() -> Response:
            page = await self._event_page(
                request, stream, ident, group=group, letter=letter, revealed=True
            )
            by = who(request)
            await audit(self._pipeline, stream, action="reveal", by=by, event=event)

            return page

        return PageAction("Show the body", event, "The body is shown, unmasked.", do)

    async def _waiting(self, name: str, request: Request, form: FormData) -> PageAction:
        """Take out one event that waits for its time, or let it run before."""
        ident = _ident(form)
        given = {"id": ident, "group": filled(form, "group")}

        return acting(name, self._on_stream(request), given, what=ident)

    async def pause(self, request: Request, form: FormData) -> PageAction:
        """Hold a group back, or the events that carry a value."""
        on, group = self._on_stream(request), filled(form, "group")
        attribute, value = filled(form, "attribute"), filled(form, "value", 500).strip()
        await self._pipeline.status().existing(on.stream)
        if group:
            await group_of(self._pipeline, on.stream, group)

        given = {"group": group, "reason": filled(form, "reason", 500)}
        what = f"{on.stream}/{group}".rstrip("/")
        if attribute in _ATTRIBUTES:
            value = await self._signed(attribute, form) or value
            if value:
                given |= {"attribute": attribute, "value": value}
                what += f" {attribute}={shown(value)}"

        return acting("pause", on, given, what=what)

    async def resume(self, request: Request, form: FormData) -> PageAction:
        """Let go on again what is paused."""
        on = self._on_stream(request)
        await self._pipeline.status().existing(on.stream)

        for pause in await on.pauses().list():
            if sign_of(pause.scope) == form.get("pause"):
                break
        else:
            raise NotFound("no such pause")

        given: dict[str, Any] = {"group": pause.group, "level": pause.level}
        if pause.attribute:
            given |= {"attribute": pause.attribute, "value": pause.value}

        what = f"{on.stream} {shown(pause.scope)}"

        return acting("resume", on, given, what=what)

    async def limit(self, request: Request, form: FormData) -> PageAction:
        """Set a limit for all workers, or take back the limit that was set."""
        on = await target_of(self._pipeline, request, form)
        name, rate = filled(form, "limit"), filled(form, "limit_rate").strip()[:60]
        if name not in [limit.name for limit in await on.limits().list()]:
            raise NotFound("no such limit")

        what = f"{on.stream}/{on.group} {name} {rate}"
        if rate:
            Rate.parse(rate)  # Refused before the question is asked.
            return acting("limit", on, {"limit": name, "rate": rate}, what=what)

        says = "What the handler declares holds again."

        return acting("limit", on, {"limit": name}, what=what, says=says)

    async def _held(self, name: str, request: Request, form: FormData) -> PageAction:
        """Let a key whose event died go on, with or without that event."""
        on = await target_of(self._pipeline, request, form)

        for row in await self._queries.held(on.stream, on.group):
            if sign_of(row.key) == form.get("key"):
                return acting(name, on, {"key": row.key}, what=shown(row.key))

        raise NotFound("no such key")

    def _on_stream(self, request: Request) -> Target:
        return Target(pipeline=self._pipeline, stream=name_of(request), by=who(request))

    async def _signed(self, attribute: str, form: FormData) -> str:
        """The value that a button names by its sign; '' if the form has no sign."""
        if not (sign := form.get("sign")):
            return ""

        for board in self._boards:
            for value in await board.values(attribute):
                if sign_of(value) == sign:
                    return value

        raise NotFound(f"no such {attribute}")


def _ident(form: FormData) -> str:
    ident = filled(form, "id", 500)
    if not ident.isprintable() or not (ident or form.get("letter")):
        raise NotFound("no such event")

    return ident
