"""Values that orjson does not support: models, decimals, numbers that are not finite."""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import Any


def plain(value: Any) -> Any:
    """Convert a value that orjson does not support to one that it does.

    pydantic models, known by their ``model_dump`` without an import, are dumped by alias,
    because they are validated by alias. Decimals become text.

    Raises:
        TypeError: the value is of another type, or its dump failed; the message has type
            names only.
    """
    kind = type(value).__name__
    if _is_model(value):
        try:
            return value.model_dump(mode="json", by_alias=True)
        except Exception as error:  # noqa: BLE001 - a user's serializer may raise anything
            failure = type(error).__name__
            raise TypeError(f"{kind}.model_dump raised {failure}") from None

    decimal = sys.modules.get("decimal")  # Without the import there is no decimal.
    if decimal is not None and isinstance(value, decimal.Decimal) and value.is_finite():
        return str(value)

    raise TypeError(f"Type is not JSON serializable: {kind}")


def not_finite(data: Any) -> bool:
    """Whether a number in the data is NaN or infinite, which orjson encodes as ``null``."""
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
            names = [field.name for field in dataclasses.fields(value)]
            rest.extend(getattr(value, name) for name in names)
        elif _is_model(value):
            rest.append(value.model_dump())

    return False


def _is_model(value: Any) -> bool:
    dump = getattr(value, "model_dump", None)
    return dump is not None and not isinstance(value, type)
