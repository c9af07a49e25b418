"""Upcasters: functions that upgrade the body of an old event to a newer version."""

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
            from_version: the version of the data that it takes; None: events without a
                version.
            to_version: the version of the data that it returns.
            function: a plain function that takes the data and returns the new data. It
                runs in the event loop.

        Raises:
            ConfigurationError: a value is invalid, the version has an upcaster already,
                or the versions form a cycle.
        """
        try:
            check_type(kind)
        except EventError as error:
            raise ConfigurationError(f"upcaster: {error}") from None

        if from_version is not None:
            _check_version(kind, "from_version", from_version)

        _check_version(kind, "to_version", to_version)
        _check_function(kind, function)
        steps = self._steps.get(kind, {})
        if from_version in steps:
            raise ConfigurationError(
                f"type {kind!r} has an upcaster from version {from_version!r} "
                f"to {steps[from_version][0]!r} already"
            )

        path, at = [from_version, to_version], to_version
        while at in steps and at != from_version:
            at = steps[at][0]
            path.append(at)

        if at == from_version:
            way = " -> ".join(map(str, path))
            raise ConfigurationError(
                f"the upcasters of type {kind!r} would go round in a circle: {way}"
            )

        self._steps[kind] = steps | {from_version: (to_version, function)}

    def chains(self) -> dict[str, Callable[[Event[Any]], bool]]:
        """Map each event type to a function that upgrades an event in place.

        The function returns whether it changed the event.
        """
        return {
            kind: partial(_upcast, dict(steps)) for kind, steps in self._steps.items()
        }


def _upcast(steps: _Steps, event: Event[Any]) -> bool:
    """Apply upcasters until the reached version has none; ``event.raw`` does not change.

    Returns whether there was one.

    Raises:
        InvalidData: an upcaster failed.
    """
    version = event.version
    changed = False
    while (step := steps.get(version)) is not None:
        to_version, function = step
        before = event.data
        try:
            event.data = function(before)
        except Exception as error:
            failure = f"raised {type(error).__name__}: {masked(str(error))}"
            raise InvalidData(f"{_named(step, version)} {failure}") from error

        if event.data is None and before is not None:
            raise InvalidData(f"{_named(step, version)} returned nothing")

        event.meta["version"] = version = to_version
        changed = True

    return changed


def _named(step: tuple[str, Upcaster], version: str | None) -> str:
    to_version, function = step
    name = getattr(function, "__qualname__", "")
    words = ["the upcaster", name, f"from version {version} to {to_version}"]
    return " ".join(filter(None, words))


def _check_version(kind: str, name: str, version: object) -> None:
    if not isinstance(version, str) or not version:
        raise ConfigurationError(
            f"upcaster for {kind!r}: {name} is a text, e.g. '2', not {version!r}"
        )


_NOT_PLAIN = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


def _check_function(kind: str, function: Any) -> None:
    name = getattr(function, "__qualname__", type(function).__name__)
    if not callable(function):
        raise ConfigurationError(
            "an upcaster is a function that takes the data, "
            f"not {type(function).__name__}"
        )

    for is_other in _NOT_PLAIN:
        if is_other(function) or is_other(type(function).__call__):
            raise ConfigurationError(
                f"upcaster {name} for {kind!r} is a plain function (def) "
                "that returns the new data: no async, no yield"
            )

    try:
        inspect.signature(function).bind(object())
    except TypeError:
        raise ConfigurationError(
            f"upcaster {name} for {kind!r} cannot be called with the data alone"
        ) from None
    except ValueError:
        pass  # A builtin without a signature.
