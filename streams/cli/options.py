"""Groups of options that commands share: a frozen dataclass with a field for each option.

A command that is decorated with ``with_options`` takes such objects beside plain
parameters. To typer, and so in the help, it has every field as a parameter of its own,
in the place of the object. A command that is a coroutine function gets an open
pipeline, too, as its parameter ``pipeline``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, iscoroutinefunction, signature
from typing import Any, TypeVar, get_type_hints

from streams.admin.actions import Target
from streams.cli.common import (
    AsJson,
    GroupName,
    Namespace,
    PartitionNumber,
    StreamName,
    Url,
    connected,
    person,
    run,
    say,
    write_json,
)
from streams.pipeline import Pipeline

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Server:
    """The server that a command talks to."""

    url: Url = None
    namespace: Namespace = None

    def ask(self, act: Callable[[Pipeline], Awaitable[T]]) -> T:
        """Open a pipeline without handlers, and run a coroutine function with it."""

        async def main() -> T:
            async with connected(self.url, self.namespace) as pipeline:
                return await act(pipeline)

        return run(main)


@dataclass(frozen=True, kw_only=True)
class OnServer(Server):
    """A server, and how the answer is written."""

    as_json: AsJson = False

    def tell(self, plain: Any, text: str) -> None:
        """Write the answer: as JSON where that was asked for, else as a sentence."""
        if self.as_json:
            write_json(plain)
        else:
            say(text)


@dataclass(frozen=True, kw_only=True)
class InPartition(Server):
    """All partitions of a stream or one, on a server."""

    partition: PartitionNumber = None

    def target(self, pipeline: Pipeline, stream: str, group: str = "") -> Target:
        """The stream or the group as the target of the caller."""
        return Target(
            pipeline=pipeline,
            stream=stream,
            group=group,
            by=person(),
            partition=self.partition,
        )


@dataclass(frozen=True, kw_only=True)
class OnPartition(InPartition, OnServer):
    """All partitions of a stream or one, on a server, and how the answer is written."""


@dataclass(frozen=True, kw_only=True)
class OneGroup:
    """A group of a stream."""

    stream: StreamName
    group: GroupName

    def on(self, pipeline: Pipeline, at: InPartition) -> Target:
        """The group as the target of the caller."""
        return at.target(pipeline, self.stream, self.group)

    def __str__(self) -> str:
        """Name both, as ``orders/billing``."""
        return f"{self.stream}/{self.group}"


def with_options(command: Callable[..., Any]) -> Callable[..., None]:
    """Let typer see the fields of the dataclasses that a command takes."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind)}

    shown: list[Parameter] = []

    for name, given in signature(command).parameters.items():
        if name in groups:
            shown += _fields(hints[name])
        elif name != "pipeline":
            hint = hints[name]
            by_name = given.replace(kind=Parameter.KEYWORD_ONLY, annotation=hint)
            shown.append(by_name)

    @wraps(command)
    def called(**given: Any) -> None:
        for name, kind in groups.items():
            values = {}
            for field in fields(kind):
                values[field.name] = given.pop(field.name)

            given[name] = hints[name](**values)

        if not iscoroutinefunction(command):
            command(**given)
            return

        servers = (one for one in given.values() if isinstance(one, Server))
        server = next(servers)
        server.ask(lambda pipeline: command(pipeline=pipeline, **given))

    called.__dict__["__signature__"] = Signature(shown)
    called.__annotations__ = {one.name: one.annotation for one in shown}

    return called


def _fields(kind: type) -> Iterator[Parameter]:
    """The fields as parameters: those of the class itself, then those of its bases."""
    hints = get_type_hints(kind, include_extras=True)

    for owner in kind.__mro__[:-1]:
        for name in vars(owner).get("__annotations__", ()):
            yield Parameter(
                name,
                Parameter.KEYWORD_ONLY,
                default=getattr(kind, name, Parameter.empty),
                annotation=hints[name],
            )
