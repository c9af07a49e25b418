"""What the JSON writer does not know or does silently: models, decimals, numbers that are not finite."""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import Any


def plain(value: Any) -> Any:
    """A value that the JSON writer does not know, as one that it does.

    Models that dump themselves (pydantic's, known by ``model_dump``; no import) by alias, because that is what they
    read again; decimals as text.

    Raises:
        TypeError: it is none of these, or its dump failed; the message has type names only.
    """
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        try:
            return dump(mode="json", by_alias=True)
        except Exception as error:  # noqa: BLE001 - somebody else's serializer; the caller learns which
            raise TypeError(
                f"{type(value).__name__}.model_dump raised {type(error).__name__}"
            ) from None
    decimal = sys.modules.get("decimal")  # Where it was never imported, nothing is one.
    if decimal is not None and isinstance(value, decimal.Decimal) and value.is_finite():
        return str(value)
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")


def not_finite(data: Any) -> bool:
    """Whether a number inside is NaN or infinite: the JSON writer makes ``null`` of it without a word."""
    rest = [data]
    while rest:
        value = rest.pop()
        if isinstance(value, float):
            if not math.isfinite(value):
                return True
        elif isinstance(value, dict):
            rest.extend(value.values())
        elif isinstance(value, (list, tuple)):
            rest.extend(value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            rest.extend(
                getattr(value, field.name) for field in dataclasses.fields(value)
            )
        elif hasattr(value, "model_dump") and not isinstance(value, type):
            rest.append(value.model_dump())
    return False
