"""Clear errors for ``with`` in place of ``async with``, and the reverse. Pure.

Type checkers do not see these methods, so that they still reject such a program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from streams.errors import ConfigurationError


class Awaited:
    """Base of classes that open only with ``async with``."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            kind = type(self).__name__
            raise ConfigurationError(
                f"this {kind} belongs to an event loop: "
                "open it with 'async with', not with 'with'; "
                "programs that block use streams.sync.Pipeline"
            )

        def __exit__(self, *_: object) -> None: ...


class Blocking:
    """Base of classes that open only with ``with``."""

    __slots__ = ()

    if not TYPE_CHECKING:

        async def __aenter__(self) -> NoReturn:
            kind = type(self).__name__
            raise ConfigurationError(
                f"this {kind} blocks: open it with 'with', not with 'async with'; "
                "event loops use streams.Pipeline"
            )

        async def __aexit__(self, *_: object) -> None: ...
