"""A deed of an operator: looked up first, then asked about, then done and written down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from streams.admin.actions import ACTIONS, Given, Target
from streams.broker.admin.listing import Listing
from streams.dashboard.roles import Role
from streams.dashboard.viewer import Viewer
from streams.errors import GroupDropped, NotFound
from streams.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Deed:
    """One deed that is about to be done.

    Attributes:
        verb: on the button.
        what: what it is done to, as it may be shown: ids as they are, what people wrote
            masked.
        says: what will happen, in a sentence.
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


Lookup = Callable[[Request, FormData], Awaitable[Deed | Response]]
Table = dict[str, tuple[Role, Lookup]]
"""Deeds by their name in the path: who may do them, and what finds out what is meant."""


def acting(name: str, on: Target, given: Given, *, what: str, says: str = "") -> Deed:
    """The deed that runs an action of the table; ``says`` takes the place of its sentence."""
    action = ACTIONS[name]

    async def do() -> str:
        await action.run(on, given)
        return action.done

    return Deed(action.verb, what, says or action.says, do, is_final=action.is_final)


def role_of(name: str) -> Role:
    """The role that may run an action of the table."""
    return Role.ADMIN if ACTIONS[name].for_admins else Role.OPERATOR


def who(request: Request) -> str:
    """The name of the viewer, for the audit record."""
    viewer: Viewer = request.scope["viewer"]
    return f"dashboard: {viewer.name or 'somebody on this machine'}"


async def audit(pipeline: Pipeline, stream: str, **facts: str) -> None:
    """Write down what changes nothing of the stream."""
    await Listing(pipeline.broker, pipeline.broker.keys(stream)).write_audit(**facts)


async def still_there(act: Awaitable[Any]) -> Any:
    """Do what needs something that is there; if somebody else was faster, say that."""
    try:
        return await act
    except GroupDropped:
        raise  # It has a sentence of its own.
    except NotFound:
        raise HTTPException(409) from None
