"""Upcasters: functions that bring the body of an old event to the version that handlers know."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from streams.common.masking import masked
from streams.errors import ConfigurationError, EventError, InvalidData
from streams.events.codec import check_type
from streams.events.event import Event

Upcaster = Callable[[Any], Any]
_Steps = dict[str | None, tuple[str, Upcaster]]


class Upcasters:
    """The upcasters of a pipeline, by event type and version."""

    def __init__(self) -> None:
        self._steps: dict[str, _Steps] = {}

    def add(
        self, kind: str, from_version: str | None, to_version: str, function: Upcaster
    ) -> None:
        """Add one step.

        Args:
            kind: the event type.
            from_version: version of the events that it takes; None: those without a version.
            to_version: version of what it returns.
            function: a plain function that takes the data and returns the new data. It runs in the event loop.

        Raises:
            ConfigurationError: a value is refused, the version has an upcaster already, or the versions form a cycle.
        """
        try:
            check_type(kind)
        except EventError as error:
            raise ConfigurationError(f"upcaster: {error}") from None
        for name, version in (
            ("from_version", from_version),
            ("to_version", to_version),
        ):
            absent = name == "from_version" and version is None
            if not absent and not (isinstance(version, str) and version):
                raise ConfigurationError(
                    f"upcaster for {kind!r}: {name} is a text, e.g. '2', not {version!r}"
                )
        _check_function(kind, function)
        steps = self._steps.get(kind, {})
        if from_version in steps:
            raise ConfigurationError(
                f"type {kind!r} has an upcaster from version {from_version!r} to {steps[from_version][0]!r} already"
            )
        path, at = [from_version, to_version], to_version
        while at in steps and at != from_version:
            at = steps[at][0]
            path.append(at)
        if at == from_version:
            way = " -> ".join(str(version) for version in path)
            raise ConfigurationError(
                f"the upcasters of type {kind!r} would go round in a circle: {way}"
            )
        self._steps[kind] = steps | {from_version: (to_version, function)}

    def chains(self) -> dict[str, Callable[[Event[Any]], bool]]:
        """Event type to what brings an event of that type to the last version, in place; it tells whether it had to."""
        return {
            kind: partial(_upcast, dict(steps)) for kind, steps in self._steps.items()
        }


def _upcast(steps: _Steps, event: Event[Any]) -> bool:
    """Apply upcasters until there is none for the version reached; ``event.raw`` stays as stored.

    Returns whether there was any.

    Raises:
        InvalidData: one of them failed.
    """
    version = event.version
    changed = False
    while (step := steps.get(version)) is not None:
        to_version, function = step
        before = event.data
        try:
            event.data = function(before)
        except Exception as error:
            raise InvalidData(
                f"the upcaster {_named(function)}from version {version} to {to_version} raised {type(error).__name__}: "
                f"{masked(str(error))}"
            ) from error
        if event.data is None and before is not None:
            raise InvalidData(
                f"the upcaster {_named(function)}from version {version} to {to_version} returned nothing"
            )
        event.meta["version"] = version = to_version
        changed = True
    return changed


def _named(function: Callable[[Any], Any]) -> str:
    name = getattr(function, "__qualname__", "")
    return f"{name} " if name else ""


def _check_function(kind: str, function: Any) -> None:
    name = getattr(function, "__qualname__", type(function).__name__)
    if not callable(function):
        raise ConfigurationError(
            f"an upcaster is a function that takes the data, not {type(function).__name__}"
        )
    if any(
        check(function) or check(type(function).__call__)
        for check in (
            inspect.iscoroutinefunction,
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
        )
    ):
        raise ConfigurationError(
            f"upcaster {name} for {kind!r} is a plain function (def) that returns the new data: no async, no yield"
        )
    try:
        inspect.signature(function).bind(object())
    except TypeError:
        raise ConfigurationError(
            f"upcaster {name} for {kind!r} cannot be called with the data alone"
        ) from None
    except ValueError:
        pass  # A builtin without a signature.
