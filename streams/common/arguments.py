"""What callers give, looked at where they give it: an error names the argument and says what it takes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from streams.errors import ConfigurationError
from streams.quantities import seconds_of, span_of, spoken

O = TypeVar("O")  # noqa: E741 - the options


def checked_seconds(
    what: str,
    value: object,
    low: float,
    high: float,
    *,
    now: Callable[[], float] | None = None,
    above: bool = False,
) -> float:
    """A span of time in seconds.

    Args:
        what: how the error calls the argument.
        value: seconds or a ``timedelta``; with ``now`` also a ``datetime``.
        low: seconds, the least.
        high: seconds, the most.
        now: see ``seconds_of``.
        above: whether ``low`` itself is too little.

    Raises:
        ConfigurationError: it is none, or out of range.
    """
    seconds = seconds_of(value, now)
    if (
        seconds is not None
        and low <= seconds <= high
        and not (above and seconds == low)
    ):
        return seconds
    said = span_of(what, low, high, is_moment=now is not None, above=above)
    raise ConfigurationError(f"{said}, not {spoken(value)}")


def checked_number(
    what: str,
    value: object,
    low: float,
    high: float,
    *,
    kinds: tuple[type[Any], ...] = (int,),
) -> Any:
    """A number; a whole one, unless ``kinds`` says otherwise.

    Raises:
        ConfigurationError: it is none, or out of range.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, kinds)
        or not low <= value <= high
    ):
        kind = "a number" if float in kinds else "an integer"
        raise ConfigurationError(
            f"{what} is {kind} from {_plain(low)} to {_plain(high)}, not {value!r}"
        )
    return value


def checked_items(what: str, value: object, example: str) -> list[Any]:
    """The items of a list or another iterable; not of a text.

    Raises:
        ConfigurationError: it has none.
    """
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{what} is a list, e.g. {example}, not {value!r}")
    return list(value)


def checked_mapping(what: str, value: object, example: str) -> dict[Any, Any]:
    """The items of a dictionary; empty for None.

    Raises:
        ConfigurationError: it is none.
    """
    if value is not None and not isinstance(value, Mapping):
        raise ConfigurationError(
            f"{what} is a dictionary, e.g. {example}, not {value!r}"
        )
    return dict(value or {})


def checked_options(options: O | None, kind: type[O]) -> O:
    """The options; their defaults for None.

    Raises:
        ConfigurationError: they are something else.
    """
    if options is not None:
        checked_kind("options", options, kind, f"a {kind.__name__}")
    return options if options is not None else kind()


def checked_kind(
    what: str, value: object, kind: type[Any] | tuple[type[Any], ...], example: str
) -> None:
    """Let a value of a class pass.

    Raises:
        ConfigurationError: it is of another one.
    """
    if not isinstance(value, kind):
        raise ConfigurationError(f"{what} is {example}, not {value!r}")


def _plain(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
