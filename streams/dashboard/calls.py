"""Calls of the API's operations: which stream and group they are on, and their table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request

from streams.admin.actions import ACTIONS, Target
from streams.admin.queries import Queries
from streams.dashboard.operations import Operation, Told
from streams.dashboard.reading import group_of
from streams.doctor.shared import SharedDoctor
from streams.errors import NotFound
from streams.pipeline import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of an operation.

    Attributes:
        pipeline: open.
        on: the stream in the path, or its group, and the name of the token for the
            audit record. The group is there.
        given: the parameters and the fields of the body, checked.
        request: the request itself.
        queries: ask the server.
        doctor: examines it.
    """

    pipeline: Pipeline
    on: Target
    given: Mapping[str, Any]
    request: Request
    queries: Queries
    doctor: SharedDoctor

    @property
    def where(self) -> tuple[str, str, int | None]:
        """The stream, the group and the partition."""
        return self.on.stream, self.on.group, self.on.partition

    async def check_stream(self) -> None:
        """Refuse a stream that is not there.

        Raises:
            NotFound: there is no such stream.
        """
        try:
            await self.pipeline.status().existing(self.on.stream)
        except NotFound:
            raise NotFound("no such stream") from None

    async def run(self, verb: str, **more: Any) -> Any:
        """Run a verb of the table with the fields of the body, and with more of them."""
        return await ACTIONS[verb].run(self.on, {**self.given, **more})


Run = Callable[[Call], Awaitable[Any]]
_ROWS: list[tuple[Run, Callable[..., Operation]]] = []


def operation(
    route: str, name: str, summary: str, told: Told, **more: Any
) -> Callable[[Run], Run]:
    """Make a function an operation of the API.

    The function returns what is answered; where the status depends on the call, both.

    Args:
        route: method and path.
        name: see ``Operation``, as for all that follow.
        summary: the same.
        told: the same.
        more: the same, by their names.
    """
    method, path = route.split()
    made = partial(Operation, method, path, name, summary, told=told, **more)

    def added(run: Run) -> Run:
        _ROWS.append((run, made))
        return run

    return added


def operations_on(pipeline: Pipeline) -> Iterator[Operation]:
    """Every operation of the dashboard itself, on one server."""
    queries, doctor = Queries(pipeline), SharedDoctor(pipeline)

    for run, made in _ROWS:

        async def act(
            request: Request, given: Mapping[str, Any], run: Run = run
        ) -> tuple[int, Any]:
            call = Call(
                pipeline=pipeline,
                on=await _target(pipeline, request),
                given=given,
                request=request,
                queries=queries,
                doctor=doctor,
            )

            found = await run(call)

            return found if isinstance(found, tuple) else (200, found)

        yield made(act)


async def _target(pipeline: Pipeline, request: Request) -> Target:
    """The stream in the path, or the group of it that the path names.

    Raises:
        NotFound: there is no such stream, partition or group.
    """
    path, partition = request.path_params, request.scope["partition"]
    stream, group = path.get("stream", ""), path.get("group", "")
    if group:
        await group_of(pipeline, stream, group, partition)

    return Target(
        pipeline=pipeline,
        stream=stream,
        group=group,
        by=f"api: {request.scope['token'].name}",
        partition=partition,
    )


def ident_of(request: Request) -> str:
    """The id in the path.

    Raises:
        NotFound: it can be none.
    """
    ident = str(request.path_params["id"])
    if not ident.isprintable() or not 0 < len(ident) <= 500:
        raise NotFound("no such id")

    return ident
