"""What operators may do with dead letters on the pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

import orjson
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from streams.admin.actions import ACTIONS
from streams.admin.dead_letters import DeadLetters
from streams.admin.queries import shown_letter
from streams.dashboard.deed import Deed, Table, audit, role_of, still_there, who
from streams.dashboard.jobs import Jobs
from streams.dashboard.reading import filter_of, group_of, name_of
from streams.dashboard.roles import Role
from streams.dashboard.viewer import Viewer
from streams.errors import EventError
from streams.pipeline import Pipeline

_MOST_COUNTED = 10_000
_MOST_SELECTED = 1000
DEFAULT_RATE = 100
_MOST_RATE = 1000


class LetterDeeds:
    """The deeds.

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
        """Every deed by its name in the path, with who may do it."""
        operator = Role.OPERATOR
        return {
            "replay": (role_of("replay"), self.replay),
            "discard": (role_of("discard"), self.discard),
            "stop": (operator, self.stop),
            "export": (operator, self.export),
            "edit": (role_of("edit"), self.edit),
        }

    async def replay(self, request: Request, form: FormData) -> Deed:
        """Put dead letters back: those that were selected, or all that match, at a rate."""
        stream, letters = name_of(request), await self._letters(request, form)
        where, _ = filter_of(form)
        back = _dead_page(request, letters)
        says = ACTIONS["replay"].says
        if form.get("scope") == "selected":
            idents = _idents(form)

            async def some() -> Response:
                moved = len((await still_there(letters.replay(idents))).moved)
                return RedirectResponse(f"{back}&notice=replay&moved={moved}", 303)

            return Deed("Replay", f"{stream}/{letters.group}", says, some, len(idents))
        try:
            rate = float(
                max(1, min(_MOST_RATE, int(str(form.get("rate", DEFAULT_RATE))[:9])))
            )
        except ValueError:
            rate = float(DEFAULT_RATE)

        async def matching() -> Response:
            self._jobs.start(letters, where, rate, who(request))
            return RedirectResponse(f"{back}&notice=started", 303)

        count, is_more = await letters.count_matching(where, _MOST_COUNTED)
        return Deed(
            "Replay",
            f"{stream}/{letters.group}",
            says,
            matching,
            count,
            is_more,
            asks_rate=True,
        )

    async def discard(self, request: Request, form: FormData) -> Deed:
        """Delete dead letters for good."""
        stream, letters = name_of(request), await self._letters(request, form)
        where, _ = filter_of(form)
        idents = _idents(form) if form.get("scope") == "selected" else None

        async def do() -> Response:
            moved = await still_there(
                letters.discard(where if idents is None else idents)
            )
            return RedirectResponse(
                f"{_dead_page(request, letters)}&notice=discard&moved={moved}", 303
            )

        count, is_more = (
            (len(idents), False)
            if idents is not None
            else await letters.count_matching(where, _MOST_COUNTED)
        )
        says = ACTIONS["discard"].says
        return Deed(
            "Discard",
            f"{stream}/{letters.group}",
            says,
            do,
            count,
            is_more,
            is_final=True,
        )

    async def stop(self, request: Request, form: FormData) -> Deed:
        """Stop a replay that runs."""
        ident = str(form.get("job", ""))[:60]
        letters = await self._letters(request, form)

        async def do() -> Response:
            if not self._jobs.stop(ident):
                raise HTTPException(409)
            await audit(
                self._pipeline,
                letters.stream,
                action="stop-replay",
                group=letters.group,
                by=who(request),
            )
            return RedirectResponse(_dead_page(request, letters), 303)

        return Deed(
            "Stop",
            f"{letters.stream}/{letters.group}",
            "What is not put back yet stays a dead letter.",
            do,
        )

    async def export(self, request: Request, form: FormData) -> Deed:
        """Dead letters as JSON lines; with their bodies for those who may see them."""
        letters = await self._letters(request, form)
        where, _ = filter_of(form)
        viewer: Viewer = request.scope["viewer"]
        bodies = form.get("bodies") == "yes" and viewer.may(Role.ADMIN)

        async def lines() -> AsyncIterator[bytes]:
            async for letter in letters.iterate(where):
                yield (
                    orjson.dumps(
                        letter.as_dict(body=True) if bodies else shown_letter(letter),
                        default=str,
                    )
                    + b"\n"
                )

        async def do() -> Response:
            await audit(
                self._pipeline,
                letters.stream,
                action="export",
                group=letters.group,
                by=who(request),
                bodies="yes" if bodies else "no",
            )
            name = f"{letters.stream}-{letters.group}-dead.jsonl"
            headers = {"Content-Disposition": f'attachment; filename="{name}"'}
            return StreamingResponse(
                lines(), media_type="application/jsonl", headers=headers
            )

        count, is_more = await letters.count_matching(where, _MOST_COUNTED)
        says = (
            "They are written to a file with their bodies, unmasked."
            if bodies
            else "They are written to a file, masked."
        )
        return Deed(
            "Export", f"{letters.stream}/{letters.group}", says, do, count, is_more
        )

    async def edit(self, request: Request, form: FormData) -> Deed | Response:
        """Put one dead letter back with another body."""
        letters = await self._letters(request, form)
        ident = str(form.get("letter", ""))[:60]
        letter = await letters.show(ident)
        stored = dict(letter.fields).get(b"data", b"").decode("utf-8", "replace")
        problem, body = "", form.get("body")
        if not isinstance(body, str):
            await audit(
                self._pipeline,
                letters.stream,
                action="reveal",
                by=who(request),
                event=letter.event_id,
            )
        else:
            try:
                data = orjson.loads(body) if letter.is_json else body
            except orjson.JSONDecodeError:
                problem = "The body is no JSON."
        if problem or not isinstance(body, str):
            return self._render(
                request,
                "edit.html",
                400 if problem else 200,
                stream=letters.stream,
                group=letters.group,
                letter=letter,
                body=body if isinstance(body, str) else stored,
                problem=problem,
            )

        async def do() -> Response:
            try:
                await still_there(letters.replay_edited(ident, data))
            except EventError:
                raise HTTPException(400) from None
            return RedirectResponse(
                f"{_dead_page(request, letters)}&notice=replay&moved=1", 303
            )

        says = ACTIONS["edit"].says
        return Deed(
            "Replay", f"{letters.stream}/{letters.group} {letter.event_id}", says, do, 1
        )

    async def _letters(self, request: Request, form: FormData) -> DeadLetters:
        stream = name_of(request)
        group = await group_of(self._pipeline, stream, str(form.get("group", "")))
        return DeadLetters(self._pipeline.broker, stream, group, by=who(request))


def _idents(form: FormData) -> list[str]:
    return [str(ident)[:60] for ident in form.getlist("letter")][:_MOST_SELECTED]


def _dead_page(request: Request, letters: DeadLetters) -> str:
    root = request.scope.get("root_path", "")
    return f"{root}/streams/{letters.stream}/dead?group={quote(letters.group)}"
