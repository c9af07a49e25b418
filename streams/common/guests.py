"""Applications that are installed beside the pipeline, and what they may bring.

from streams import Guest
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from streams.common.exception_text import describe_error

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import typer

    from streams.broker import Broker
    from streams.dashboard.board import Board, Host
    from streams.doctor.finding import Finding
    from streams.pipeline import Pipeline

ENTRY_POINTS = "streams.applications"
"""The group of entry points by which applications are found."""


class Guest:
    """An application as the command line, the dashboard, doctor and workers see it.

    Override what the application brings. Import what a method needs inside the method:
    the class itself is loaded by programs that need none of it.
    """

    def commands(self) -> Mapping[str, typer.Typer]:
        """The commands, by the word that stands before them.

        ``{"shop": app}`` makes ``streams shop ...``. The word of a group that is there,
        e.g. ``limits``, adds to that group, and ``""`` adds to ``streams`` itself. A
        command that is there already stays as it is.
        """
        return {}

    def board(self, host: Host) -> Board | None:
        """The part of the dashboard; ``host`` is what its pages are made with."""
        return None

    async def examine(self, broker: Broker) -> Sequence[Finding]:
        """The findings of the application, which ``streams doctor`` shows with its own.

        A code has the name of the application before it, e.g. ``shop:no-stock``.
        """
        return ()

    async def on_start(self, pipeline: Pipeline) -> None:
        """``streams worker`` is about to run a pipeline, which is open."""

    async def on_stop(self, pipeline: Pipeline) -> None:
        """The last handler has ended; the pipeline is still open."""


class Guests:
    """The applications of this environment.

    They are looked for when they are needed first: the search reads a file of every
    distribution that is installed. An application that fails takes nothing else with it.

    Args:
        tell: given a line for each part of an application that fails.

    Attributes:
        broken: the latest line of each application that failed, by its name.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._origins: dict[str, str] = {}
        self.broken: dict[str, str] = {}

    @functools.cached_property
    def all(self) -> dict[str, Guest]:
        """The applications that can be loaded, by the names of their entry points."""
        from importlib.metadata import entry_points

        found: dict[str, Guest] = {}
        points = entry_points(group=ENTRY_POINTS)
        for point in sorted(points, key=lambda point: (point.name, _origin(point))):
            name = point.name
            if name in self._origins:
                self._fail(name, f"the name of {_origin(point)} is taken by it, too")
                continue
            self._origins[name] = _origin(point)
            with self.excused(name, "be loaded"):
                found[name] = _loaded(point)
        return found

    @contextlib.contextmanager
    def excused(self, name: str, what: str) -> Iterator[None]:
        """Tell of what goes wrong inside, and go on; ``what`` it cannot do, as a verb."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the guest's
            facts = describe_error(error, "")
            self._fail(name, f"cannot {what}: {facts['type']}: {facts['message']}")

    def _fail(self, name: str, what: str) -> None:
        line = (
            f"the application {name} of {self._origins[name]} {what}; all else works"
            " without it: update it or uninstall it"
        )
        self.broken[name] = line
        self._tell(line)


def _loaded(point: EntryPoint) -> Guest:
    """The guest that an entry point names: a class derived from ``Guest``, or an object.

    Raises:
        TypeError: it names something else.
    """
    found = point.load()
    guest = found() if isinstance(found, type) else found
    if not isinstance(guest, Guest):
        raise TypeError(f"{point.value} is no streams.Guest")
    return guest


def _origin(point: EntryPoint) -> str:
    return (
        f"{point.dist.name} {point.dist.version}" if point.dist else "no distribution"
    )
