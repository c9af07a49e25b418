"""Argument checks whose errors name the argument and the values it takes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard, TypeVar

from streams.errors import ConfigurationError
from streams.quantities import seconds_of, span_of, spoken

Options = TypeVar("Options")


def is_integer(value: object, low: float, high: float) -> TypeGuard[int]:
    """Whether a value is an integer in a range; True and False are not."""
    return is_number(value, low, high, kinds=(int,))


def is_number(
    value: object,
    low: float,
    high: float,
    *,
    kinds: tuple[type[Any], ...] = (int, float),
) -> bool:
    """Whether a value is a number in a range; True and False are not."""
    number: Any = value
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    return bool(low <= number <= high)


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
        what: the name of the argument.
        value: seconds or a ``timedelta``; with ``now`` also a ``datetime``.
        low: the least, in seconds.
        high: the most, in seconds.
        now: see ``seconds_of``.
        above: whether ``low`` itself is refused.

    Raises:
        ConfigurationError: the value is not a span, or is out of range.
    """
    seconds = seconds_of(value, now)
    is_low = above and seconds == low
    if seconds is not None and low <= seconds <= high and not is_low:
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
    """The value, if it is a number of one of these kinds in the range.

    Raises:
        ConfigurationError: the value is another one.
    """
    if is_number(value, low, high, kinds=kinds):
        return value

    kind = "a number" if float in kinds else "an integer"
    raise ConfigurationError(
        f"{what} is {kind} from {_plain(low)} to {_plain(high)}, not {value!r}"
    )


def checked_items(what: str, value: object, example: str) -> list[Any]:
    """The items of a list or another iterable.

    Raises:
        ConfigurationError: the value is a text, a dictionary or not iterable.
    """
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{what} is a list, e.g. {example}, not {value!r}")
    return list(value)


def checked_mapping(what: str, value: object, example: str) -> dict[Any, Any]:
    """A copy of a dictionary; empty for None.

    Raises:
        ConfigurationError: the value is not a dictionary.
    """
    if value is not None and not isinstance(value, Mapping):
        raise ConfigurationError(
            f"{what} is a dictionary, e.g. {example}, not {value!r}"
        )

    return dict(value or {})


def checked_options(options: Options | None, kind: type[Options]) -> Options:
    """The options, or their defaults for None.

    Raises:
        ConfigurationError: the value is of another class.
    """
    if options is None:
        return kind()

    checked_kind("options", options, kind, f"a {kind.__name__}")
    return options


def checked_kind(
    what: str, value: object, kind: type[Any] | tuple[type[Any], ...], example: str
) -> None:
    """Refuse a value that is not of a class.

    Raises:
        ConfigurationError: the value is of another class.
    """
    if not isinstance(value, kind):
        raise ConfigurationError(f"{what} is {example}, not {value!r}")


def _plain(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
