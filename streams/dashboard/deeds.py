"""What operators may do on the pages with events, pauses, keys, limits and endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from streams.admin.pauses import Pause
from streams.admin.queries import Queries, shown, sign_of
from streams.dashboard.deed import Deed, Table, audit, who
from streams.dashboard.jobs import Jobs
from streams.dashboard.letter_deeds import DEFAULT_RATE, LetterDeeds
from streams.dashboard.reading import group_of, name_of
from streams.dashboard.roles import Role
from streams.dashboard.whatsapp import WhatsAppQueries
from streams.errors import NotFound, NotWaiting
from streams.pipeline import Pipeline
from streams.policy.limit import Rate
from streams.whatsapp.outbox.endpoints import Endpoints
from streams.whatsapp.settings import WhatsAppSettings

_ATTRIBUTES = ("type", "tenant", "instance", "key", "subject", "source")


class Deeds:
    """Every deed on one server.

    Args:
        pipeline: open while they are done.
        render: makes a page of a template and its values.
        event_page: shows an event with its body.
        jobs: the replays that run.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        render: Callable[..., Response],
        event_page: Callable[..., Awaitable[Response]],
        jobs: Jobs,
    ) -> None:
        self._pipeline = pipeline
        self._render = render
        self._event_page = event_page
        self._queries = Queries(pipeline)
        operator = Role.OPERATOR
        self.all: Table = LetterDeeds(pipeline, render, jobs).all() | {
            "reveal": (Role.ADMIN, self.reveal),
            "cancel": (operator, self.cancel),
            "run-now": (operator, self.run_now),
            "pause": (operator, self.pause),
            "resume": (operator, self.resume),
            "release": (operator, self.release),
            "skip": (operator, self.skip),
            "limit": (operator, self.limit),
            "endpoint": (operator, self.endpoint),
        }

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
        stream, ident, group = (
            name_of(request),
            _ident(form),
            str(form.get("group", ""))[:100],
        )

        async def do() -> str:
            await self._pipeline.cancel(stream, ident, group, by=who(request))
            return "was cancelled"

        return Deed(
            "Cancel",
            ident,
            "It will not run (again), and nothing of it is kept.",
            do,
            is_final=True,
        )

    async def run_now(self, request: Request, form: FormData) -> Deed:
        """Let one event run before its time."""
        stream, ident, group = (
            name_of(request),
            _ident(form),
            str(form.get("group", ""))[:100],
        )

        async def do() -> str:
            await self._pipeline.run_now(stream, ident, group, by=who(request))
            return "is due now"

        return Deed(
            "Run now",
            ident,
            "It runs as soon as a worker is free; limits and pauses hold.",
            do,
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
        if attribute == "instance" and form.get("sign"):
            value = await self._instance(str(form.get("sign")))
        where: dict[str, Any] = (
            {attribute: value} if attribute in _ATTRIBUTES and value else {}
        )

        async def do() -> str:
            await self._pipeline.pauses(stream, by=who(request)).pause(
                group=group, reason=reason, **where
            )
            return "is paused"

        what = f"{stream}/{group}".rstrip("/") + (
            f" {attribute}={shown(value)}" if where else ""
        )
        return Deed(
            "Pause",
            what,
            "Nothing of it is started until somebody resumes it; what runs goes on.",
            do,
        )

    async def resume(self, request: Request, form: FormData) -> Deed:
        """Let what is paused go on."""
        stream = name_of(request)
        await self._pipeline.status().existing(stream)
        pauses = self._pipeline.pauses(stream, by=who(request))
        found = [
            pause
            for pause in await pauses.list()
            if sign_of(pause.scope) == form.get("pause")
        ]
        if not found:
            raise NotFound("no such pause")
        pause: Pause = found[0]
        where: dict[str, Any] = (
            {pause.attribute: pause.value} if pause.attribute else {}
        )

        async def do() -> str:
            await pauses.resume(group=pause.group, level=pause.level, **where)
            return "goes on"

        return Deed(
            "Resume",
            f"{stream} {shown(pause.scope)}",
            "What was held back is started again.",
            do,
        )

    async def release(self, request: Request, form: FormData) -> Deed:
        """Let a key whose event died go on, with that event first."""
        key, keys = await self._held(request, form)

        async def do() -> str:
            await keys.release(key)
            return "goes on"

        says = (
            "Its event that died is put back and runs first; then the others, in order."
        )
        return Deed("Release", shown(key), says, do)

    async def skip(self, request: Request, form: FormData) -> Deed:
        """Let a key whose event died go on, without that event."""
        key, keys = await self._held(request, form)

        async def do() -> str:
            await keys.skip(key)
            return "goes on"

        return Deed(
            "Skip",
            shown(key),
            "The event that died stays a dead letter; the others run, in order.",
            do,
        )

    async def limit(self, request: Request, form: FormData) -> Deed:
        """Set a limit for all workers, or take back what was set."""
        stream, group = (
            name_of(request),
            await group_of(
                self._pipeline, name_of(request), str(form.get("group", ""))
            ),
        )
        limits = self._pipeline.limits(stream, group, by=who(request))
        name, rate = (
            str(form.get("limit", ""))[:100],
            str(form.get("limit_rate", "")).strip()[:60],
        )
        if name not in [limit.name for limit in await limits.list()]:
            raise NotFound("no such limit")
        if rate:
            Rate.parse(rate)  # Refused before anybody is asked.

        async def do() -> str:
            if rate:
                await limits.set(name, rate)
            else:
                await limits.reset(name)
            return "is set"

        says = (
            "It holds for all workers at once."
            if rate
            else "What the handler declares holds again."
        )
        return Deed("Set", f"{stream}/{group} {name} {rate}", says, do)

    async def endpoint(self, request: Request, form: FormData) -> Deed:
        """Call an endpoint again that was disabled."""
        ident = str(form.get("endpoint", ""))[:60]
        endpoints = Endpoints(self._pipeline, WhatsAppSettings())
        if await endpoints.get(ident) is None:
            raise NotFound("no such endpoint")

        async def do() -> str:
            await endpoints.enable(ident)
            await audit(
                self._pipeline,
                name_of(request),
                action="enable-endpoint",
                by=who(request),
                event=ident,
            )
            return "goes on"

        return Deed("Enable", ident, "It is called again.", do)

    async def _held(self, request: Request, form: FormData) -> tuple[str, Any]:
        stream = name_of(request)
        group = await group_of(self._pipeline, stream, str(form.get("group", "")))
        rows = await self._queries.held(stream, group)
        found = [row.key for row in rows if sign_of(row.key) == form.get("key")]
        if not found:
            raise NotFound("no such key")
        return found[0], self._pipeline.ordered_keys(stream, group, by=who(request))

    async def _instance(self, sign: str) -> str:
        for one in (await WhatsAppQueries(self._pipeline).overview())["instances"]:
            if sign_of(one["id"]) == sign:
                return str(one["id"])
        raise NotFound("no such instance")


def _ident(form: FormData) -> str:
    ident = str(form.get("id", ""))[:500]
    if not ident.isprintable() or not (ident or form.get("letter")):
        raise NotFound("no such event")
    return ident
