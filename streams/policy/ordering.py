"""Lanes: order and fairness among the events of a group, by attributes of the event."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from streams.common.arguments import checked_mapping
from streams.errors import ConfigurationError
from streams.policy.limit import ATTRIBUTES

OnDead = Literal["continue", "hold"]
Attributes = str | Iterable[str] | None
_LONGEST_KEY = 200
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Lanes:
    """How the events of a group are lined up.

    Attributes:
        order_by: attributes that make the key whose events run one after the other; () if there is no order.
        fair_by: attributes that make the key among whose values starts are shared out; () if they are not.
        on_dead: what the death of an event does to its key: ``continue`` with the next, or ``hold`` for an operator.
        weights: share of a value of ``fair_by``, 1 where it is not named.
    """

    order_by: tuple[str, ...] = ()
    fair_by: tuple[str, ...] = ()
    on_dead: OnDead = "continue"
    weights: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.order_by or self.fair_by)

    def order_key(self, fields: Sequence[bytes]) -> str | None:
        """The key of a stored event whose order is kept; None: it has none.

        The scripts make the same key of the same fields; see ``lanes.inc.lua``.
        """
        if not self.order_by:
            return None
        named = dict(zip(fields[::2], fields[1::2], strict=False))
        values = _values(named) or {}
        parts: list[bytes] = []
        for name in self.order_by:
            value = named.get(b"type", b"") if name == "type" else values.get(name)
            if not isinstance(value, (str, bytes)) or not value:
                return None
            parts.append(
                value
                if isinstance(value, bytes)
                else value.encode("utf-8", "surrogatepass")
            )
        return lane_key(b",".join(parts))


NO_LANES = Lanes()


def unread_key(fields: Sequence[bytes]) -> bytes | None:
    """What the scripts can make the key of, where the meta of a stored event can not be read here; None: it can.

    The server's reader of JSON takes more than ours does (NaN, bytes that are no UTF-8), so an event that is malformed
    may be lined up.
    """
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    if _values(named) is not None:
        return None
    return b"\1" + named.get(b"type", b"").replace(b"\1", b"") + b"\1" + named[b"meta"]


def _values(named: Mapping[bytes, bytes]) -> dict[str, Any] | None:
    """The meta of a stored event; None: it can not be read."""
    try:
        meta = orjson.loads(named.get(b"meta") or b"{}")
    except orjson.JSONDecodeError:
        return None
    return meta if isinstance(meta, dict) else {}


def lane_key(text: bytes) -> str:
    """A key as it is stored: a long one, or one with control characters, by its hash."""
    if len(text) > _LONGEST_KEY or _CONTROL.search(text):
        return hashlib.sha1(text, usedforsecurity=False).hexdigest()
    return text.decode("utf-8", "replace")


def checked_lanes(
    order_by: Attributes,
    fair_by: Attributes,
    on_dead: OnDead,
    weights: Mapping[str, int] | None,
) -> Lanes:
    """The lanes that a handler declares.

    Raises:
        ConfigurationError: an attribute is unknown, or a value is refused.
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
        if (
            not isinstance(value, str)
            or isinstance(weight, bool)
            or not isinstance(weight, int)
        ):
            raise ConfigurationError(
                f"fair_weights are texts to integers, not {value!r} to {weight!r}"
            )
        if not 1 <= weight <= 1000:
            raise ConfigurationError(
                f"fair_weights: that of {value!r} is an integer from 1 to 1000, not {weight!r}"
            )
    return Lanes(order, fair, on_dead, shares)


def _names(what: str, given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    names = (
        (given,)
        if isinstance(given, str)
        else tuple(given)
        if isinstance(given, Iterable)
        else (given,)
    )
    for name in names:
        if name not in ATTRIBUTES:
            hint = (
                "; a function can only make the key of a Limit"
                if callable(name)
                else ""
            )
            raise ConfigurationError(
                f"{what} is one or several of {', '.join(ATTRIBUTES)}, not {name!r}: the server reads it{hint}"
            )
    if len(set(names)) != len(names):
        raise ConfigurationError(f"{what} names an attribute twice")
    return names
