"""Actions of operators on pages: looked up, asked about, done and written down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from streams.admin.actions import ACTIONS, Given, Target
from streams.admin.operating import Operating
from streams.broker.admin.listing import Listing
from streams.dashboard.reading import group_of, name_of
from streams.dashboard.roles import Role
from streams.dashboard.viewer import Viewer
from streams.errors import GroupDropped, NotFound
from streams.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class PageAction:
    """One action that an operator is about to do.

    Attributes:
        verb: on the button.
        what: its object, as it may be shown: ids as they are, texts of people masked.
        says: its effect, in a sentence.
        do: does it; returns a page, or a word for the page that says it is done.
        count: of how many events; None where that says nothing.
        is_more: there are more of them than were counted.
        asks_rate: how fast is asked, too.
        is_final: it cannot be taken back.
    """

    verb: str
    what: str
    says: str
    do: Callable[[], Awaitable[Response | str]]
    count: int | None = None
    is_more: bool = False
    asks_rate: bool = False
    is_final: bool = False


Lookup = Callable[[Request, FormData], Awaitable[PageAction | Response]]
Table = dict[str, tuple[Role, Lookup]]
"""Actions by their name in the path: the least role, and the function that looks it up."""


def acting(
    name: str,
    on: Target,
    given: Given | None = None,
    *,
    then: Callable[[Any], Response] | None = None,
    **told: Any,
) -> PageAction:
    """The action of an operator that runs a verb of the table.

    Args:
        name: of the verb.
        on: the target.
        given: its parameters.
        then: makes a page of the outcome; None: the page that says it is done.
        told: fields in place of those that the table and the target say.
    """
    action = ACTIONS[name]

    async def do() -> Response | str:
        running = action.run(on, given or {})
        if then is not None:
            return then(await still_there(running))

        await running

        return action.done

    fields: dict[str, Any] = {
        "verb": action.verb,
        "what": f"{on.stream}/{on.group}",
        "says": action.says,
        "do": do,
        "is_final": action.is_final,
    }

    return PageAction(**fields | told)


def of_verbs(lookups: Mapping[str, Lookup]) -> Table:
    """Actions that run a verb of the table, with the role that the table asks for."""
    return {
        name: (Role.ADMIN if ACTIONS[name].for_admins else Role.OPERATOR, lookup)
        for name, lookup in lookups.items()
    }


def who(request: Request) -> str:
    """The name of the viewer, for the audit record."""
    viewer: Viewer = request.scope["viewer"]

    return f"dashboard: {viewer.name or 'somebody on this machine'}"


async def target_of(pipeline: Pipeline, request: Request, form: FormData) -> Target:
    """The group of a form on the stream in the path, for the viewer.

    Raises:
        NotFound: there is no such stream or group.
    """
    stream = name_of(request)
    group = await group_of(pipeline, stream, str(form.get("group", "")))

    return Target(pipeline=pipeline, stream=stream, group=group, by=who(request))


async def audit(pipeline: Operating, stream: str, **facts: str) -> None:
    """Write down what changes nothing of the stream."""
    await Listing(pipeline.broker, pipeline.broker.keys(stream)).write_audit(**facts)


async def still_there(act: Awaitable[Any]) -> Any:
    """Act on something that has to be there; if another operator was faster, say that."""
    try:
        return await act
    except GroupDropped:
        raise  # It has a sentence of its own.
    except NotFound:
        raise HTTPException(409) from None
