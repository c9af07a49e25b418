"""Order and fairness among the events of a group, by attributes of the event."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from streams.common.arguments import checked_mapping, checked_number, is_integer
from streams.errors import ConfigurationError
from streams.policy.limit import ATTRIBUTES

OnDead = Literal["continue", "hold"]
Attributes = str | Iterable[str] | None
_LONGEST_KEY = 200
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Lanes:
    """The order and fairness of a group's events.

    Attributes:
        order_by: the attributes of the ordering key. Events with the same key run one
            after the other. () means no order.
        fair_by: the attributes of the fairness key. Starts are shared among its values.
            () means no fairness.
        on_dead: the effect of a dead event on its key: ``continue`` with the next event,
            or ``hold`` the key for an operator.
        weights: the share of each value of ``fair_by``; 1 for values without a weight.
    """

    order_by: tuple[str, ...] = ()
    fair_by: tuple[str, ...] = ()
    on_dead: OnDead = "continue"
    weights: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.order_by or self.fair_by)

    def order_key(self, fields: Sequence[bytes]) -> str | None:
        """The ordering key of a stored event; None if it has none.

        The scripts compute the same key; see ``lanes.inc.lua``.
        """
        if not self.order_by:
            return None

        named = dict(zip(fields[::2], fields[1::2], strict=False))
        values = _values(named) or {}
        parts: list[bytes] = []
        for name in self.order_by:
            value = named.get(b"type", b"") if name == "type" else values.get(name)
            if isinstance(value, str):
                value = value.encode("utf-8", "surrogatepass")

            if not isinstance(value, bytes) or not value:
                return None

            parts.append(value)

        return lane_key(b",".join(parts))


NO_LANES = Lanes()


def unread_key(fields: Sequence[bytes]) -> bytes | None:
    """The raw text of a key that only the scripts can compute; None for other events.

    The server's JSON parser accepts more than orjson (NaN, bytes that are not UTF-8), so
    that a malformed event may be ordered.
    """
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    if _values(named) is not None:
        return None
    return b"\1" + named.get(b"type", b"").replace(b"\1", b"") + b"\1" + named[b"meta"]


def _values(named: Mapping[bytes, bytes]) -> dict[str, Any] | None:
    """The meta of a stored event; None if it cannot be read."""
    try:
        meta = orjson.loads(named.get(b"meta") or b"{}")
    except orjson.JSONDecodeError:
        return None

    return meta if isinstance(meta, dict) else {}


def lane_key(text: bytes) -> str:
    """The stored form of a key: a hash, if it is long or has control characters."""
    if len(text) > _LONGEST_KEY or _CONTROL.search(text):
        return hashlib.sha1(text, usedforsecurity=False).hexdigest()
    return text.decode("utf-8", "replace")


def checked_lanes(
    order_by: Attributes,
    fair_by: Attributes,
    on_dead: OnDead,
    weights: Mapping[str, int] | None,
) -> Lanes:
    """The order and fairness that a handler declares.

    Raises:
        ConfigurationError: an attribute is unknown, or a value is invalid.
    """
    order, fair = _names("order_by", order_by), _names("fair_by", fair_by)
    if on_dead not in ("continue", "hold"):
        raise ConfigurationError(f"on_dead is 'continue' or 'hold', not {on_dead!r}")

    if on_dead == "hold" and not order:
        raise ConfigurationError(
            "on_dead='hold' holds a key whose order is kept: give order_by too"
        )

    shares = checked_mapping("fair_weights", weights, "fair_weights={'acme': 3}")
    if shares and not fair:
        raise ConfigurationError(
            "fair_weights are shares of the values of fair_by: give fair_by too"
        )

    for value, weight in shares.items():
        if not isinstance(value, str) or not is_integer(weight, -math.inf, math.inf):
            raise ConfigurationError(
                f"fair_weights are texts to integers, not {value!r} to {weight!r}"
            )

        checked_number(f"fair_weights: that of {value!r}", weight, 1, 1000)

    return Lanes(order, fair, on_dead, shares)


def _names(what: str, given: Any) -> tuple[str, ...]:
    if given is None:
        return ()

    if isinstance(given, str) or not isinstance(given, Iterable):
        given = (given,)

    names = tuple(given)
    for name in names:
        if name not in ATTRIBUTES:
            said = f"{what} is one or several of {', '.join(ATTRIBUTES)}, not {name!r}"
            said += ": the server reads it"
            if callable(name):
                said += "; a function can only make the key of a Limit"

            raise ConfigurationError(said)

    if len(set(names)) != len(names):
        raise ConfigurationError(f"{what} names an attribute twice")
    return names
