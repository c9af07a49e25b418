"""The part of the dashboard that an application brings, and the host of its pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from streams.common.guests import Guests
from streams.common.log_facts import logger_of
from streams.dashboard.live import Live
from streams.dashboard.operations import Operation
from streams.dashboard.page_action import Table
from streams.dashboard.words import language_of
from streams.errors import StreamsError
from streams.logs import failure_facts
from streams.pipeline import Pipeline

logger = logger_of("dashboard")
Page = Callable[[Request], Awaitable[Response]]


class Hit(NamedTuple):
    """A find of a search.

    Attributes:
        kind: a word for its kind, e.g. ``Order``; translated.
        name: its id, as it may be shown.
        state: where it stands, in a word.
        path: of its page, with the query, below the root of the dashboard.
    """

    kind: str
    name: str
    state: str
    path: str


async def _no_hit(_: str) -> Hit | None:
    return None


async def _no_values(_: str) -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The part of the dashboard that an application brings.

    Paths begin with ``/`` and are below the root of the dashboard. A path, an action or
    an operation that is there already stays as it is.

    Attributes:
        entries: title to path of what stands in the navigation.
        pages: path to what answers it; every viewer may see them.
        templates: the folder of its templates. ``render`` finds them behind the name of
            the application: ``shop/stock.html``.
        words: its texts in Brazilian Portuguese, by the English ones.
        actions: actions of operators, at ``/streams/{stream}/NAME``.
        operations: of the API.
        tags: the parts of the API's document that they stand in, with a sentence each.
        search: finds what it knows by an id.
        values: every value of an attribute that it knows. A button that must not show
            a value names it by its ``sign``, and it is looked up among these.
    """

    entries: Mapping[str, str] = field(default_factory=dict)
    pages: Mapping[str, Page] = field(default_factory=dict)
    templates: Path | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    actions: Table = field(default_factory=dict)
    operations: Sequence[Operation] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    search: Callable[[str], Awaitable[Hit | None]] = _no_hit
    values: Callable[[str], Awaitable[Iterable[str]]] = _no_values


@dataclass(frozen=True, slots=True)
class Host:
    """The services that pages use.

    Attributes:
        pipeline: open while pages are asked.
        render: makes a page of a request, a template and its values.
        fragment: makes a part of a page, which is the same for every reader.
        live: sends such parts as they change.
    """

    pipeline: Pipeline
    render: Callable[..., Response]
    fragment: Callable[..., str]
    live: Live = field(default_factory=Live)

    async def follow(
        self,
        request: Request,
        template: str,
        values: Callable[[], Awaitable[Mapping[str, Any]]],
        *key: str,
    ) -> Response:
        """A part of a page, as it changes; ``key`` tells it from others of the template."""

        async def made() -> str:
            return self.fragment(request, template, **await values())

        return await self.live.answer(request, self.key(request, template, *key), made)

    def key(self, request: Request, *key: str) -> tuple[str, ...]:
        """The name of a part among all others, in each language and under each root."""
        language = language_of(request.headers.get("accept-language", ""))

        return (language, request.scope.get("root_path", ""), *key)


def boards(host: Host) -> dict[str, Board]:
    """The part of each application that is installed, by its name."""
    guests = Guests(logger.error)
    found: dict[str, Board] = {}

    for name, guest in guests.all.items():
        with guests.excused(name, "give its part of the dashboard"):
            board = guest.board(host)
            if board is not None:
                found[name] = board

    return found


async def hits(boards: Mapping[str, Board], wanted: str) -> list[Hit]:
    """The finds of all applications; one that fails does not hide those of the others."""
    found: list[Hit | None] = []

    for name, board in boards.items():
        try:
            found.append(await board.search(wanted))
        except StreamsError:
            raise
        except Exception as error:  # noqa: BLE001 - it is logged, and the page shows the rest
            logger.error(  # noqa: TRY400 - the facts are masked
                "the search of an application failed; "
                "the page shows what else was found",
                extra={"application": name, **failure_facts(error)},
            )

    return [hit for hit in found if hit is not None]
