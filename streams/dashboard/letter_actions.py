"""Actions of operators on dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from streams.admin.actions import Target
from streams.admin.dead_letter import Filter
from streams.admin.queries import shown_letter
from streams.dashboard.jobs import Jobs
from streams.dashboard.page_action import (
    PageAction,
    Table,
    acting,
    audit,
    of_verbs,
    target_of,
)
from streams.dashboard.reading import filled, filter_of
from streams.dashboard.roles import Role
from streams.dashboard.viewer import Viewer
from streams.errors import EventError
from streams.pipeline import Pipeline

_MOST_COUNTED = 10_000
_MOST_SELECTED = 1000
DEFAULT_RATE = 100
_MOST_RATE = 1000


class LetterActions:
    """The actions on dead letters.

    Args:
        pipeline: open while they are done.
        render: makes a page of a template and its values.
        jobs: the replays that run.
    """

    def __init__(
        self, pipeline: Pipeline, render: Callable[..., Response], jobs: Jobs
    ) -> None:
        self._pipeline = pipeline
        self._render = render
        self._jobs = jobs

    def all(self) -> Table:
        """Every action by its name in the path, with the role that it needs."""
        verbs = {"replay": self.replay, "discard": self.discard, "edit": self.edit}

        return of_verbs(verbs) | {
            "stop": (Role.OPERATOR, self.stop),
            "export": (Role.OPERATOR, self.export),
        }

    async def replay(self, request: Request, form: FormData) -> PageAction:
        """Put dead letters back: those that were selected, or all that match, at a rate."""
        on = await self._on_group(request, form)
        if form.get("scope") == "selected":
            idents = _idents(form)

            return acting(
                "replay",
                on,
                {"which": idents},
                then=lambda done: _moved(request, on, "replay", len(done.moved)),
                count=len(idents),
            )

        letters, (where, _) = on.dead_letters(), filter_of(form)

        try:
            rate = int(filled(form, "rate", 9) or DEFAULT_RATE)
        except ValueError:
            rate = DEFAULT_RATE

        async def matching() -> Response:
            bounded = float(max(1, min(_MOST_RATE, rate)))
            self._jobs.start(letters, where, bounded, on.by)

            return _back(request, on, "&notice=started")

        counted = await _counted(on, where)

        return acting("replay", on, do=matching, asks_rate=True, **counted)

    async def discard(self, request: Request, form: FormData) -> PageAction:
        """Delete dead letters for good."""
        on = await self._on_group(request, form)
        which: Filter | list[str]
        if form.get("scope") == "selected":
            which = _idents(form)
            counted: dict[str, Any] = {"count": len(which)}
        else:
            which, _ = filter_of(form)
            counted = await _counted(on, which)

        return acting(
            "discard",
            on,
            {"which": which},
            then=lambda count: _moved(request, on, "discard", count),
            **counted,
        )

    async def stop(self, request: Request, form: FormData) -> PageAction:
        """Stop a replay that runs."""
        on = await self._on_group(request, form)

        async def do() -> Response:
            if not self._jobs.stop(filled(form, "job", 60)):
                raise HTTPException(409)

            await _audit(on, action="stop-replay", group=on.group)

            return _back(request, on)

        says = "What is not put back yet stays a dead letter."

        return PageAction("Stop", f"{on.stream}/{on.group}", says, do)

    async def export(self, request: Request, form: FormData) -> PageAction:
        """Dead letters as JSON lines; with their bodies for admins."""
        on = await self._on_group(request, form)
        where, _ = filter_of(form)
        viewer: Viewer = request.scope["viewer"]
        bodies = form.get("bodies") == "yes" and viewer.may(Role.ADMIN)

        async def lines() -> AsyncIterator[bytes]:
            async for letter in on.dead_letters().iterate(where):
                row = letter.as_dict(body=True) if bodies else shown_letter(letter)
                yield orjson.dumps(row, str, orjson.OPT_APPEND_NEWLINE)

        async def do() -> Response:
            told = "yes" if bodies else "no"
            await _audit(on, action="export", group=on.group, bodies=told)
            name = f"{on.stream}-{on.group}-dead.jsonl"
            headers = {"Content-Disposition": f'attachment; filename="{name}"'}

            return StreamingResponse(lines(), 200, headers, "application/jsonl")

        says = "They are written to a file, masked."
        if bodies:
            says = "They are written to a file with their bodies, unmasked."

        counted = await _counted(on, where)

        return PageAction("Export", f"{on.stream}/{on.group}", says, do, **counted)

    async def edit(self, request: Request, form: FormData) -> PageAction | Response:
        """Put one dead letter back with another body."""
        on, ident = await self._on_group(request, form), filled(form, "letter", 60)
        letter = await on.dead_letters().show(ident)
        body, problem = form.get("body"), ""
        is_sent = isinstance(body, str)
        if isinstance(body, str):
            try:
                data = orjson.loads(body) if letter.is_json else body
            except orjson.JSONDecodeError:
                problem = "The body is no JSON."
        else:
            await _audit(on, action="reveal", event=letter.event_id)
            stored = dict(letter.fields).get(b"data", b"")
            body = stored.decode("utf-8", "replace")

        if problem or not is_sent:
            return self._render(
                request,
                "edit.html",
                400 if problem else 200,
                stream=on.stream,
                group=on.group,
                letter=letter,
                body=body,
                problem=problem,
            )

        edited = acting(
            "edit",
            on,
            {"letter": ident, "data": data},
            then=lambda _: _moved(request, on, "replay", 1),
            what=f"{on.stream}/{on.group} {letter.event_id}",
            count=1,
        )

        async def do() -> Response | str:
            try:
                return await edited.do()
            except EventError:
                raise HTTPException(400) from None

        return replace(edited, do=do)

    async def _on_group(self, request: Request, form: FormData) -> Target:
        return await target_of(self._pipeline, request, form)


def _idents(form: FormData) -> list[str]:
    return [str(ident)[:60] for ident in form.getlist("letter")][:_MOST_SELECTED]


async def _counted(on: Target, where: Filter) -> dict[str, Any]:
    """The number of dead letters that match, as fields of an action."""
    count, is_more = await on.dead_letters().count_matching(where, _MOST_COUNTED)

    return {"count": count, "is_more": is_more}


async def _audit(on: Target, **facts: str) -> None:
    await audit(on.pipeline, on.stream, by=on.by, **facts)


def _moved(request: Request, on: Target, notice: str, count: int) -> Response:
    return _back(request, on, f"&notice={notice}&moved={count}")


def _back(request: Request, on: Target, more: str = "") -> Response:
    """Back to the page of dead letters."""
    root = request.scope.get("root_path", "")
    page = f"{root}/streams/{on.stream}/dead?group={quote(on.group)}"

    return RedirectResponse(page + more, 303)
