"""Looks at what a producer stored."""

from __future__ import annotations

from streams import Broker

LEVELS = (0, 1, 5, 10)


async def stored(broker: Broker, level: int = 0) -> list[tuple[str, dict[str, bytes]]]:
    """Entry id and fields of what a level holds."""
    rows = await broker.control.call("XRANGE", broker.keys("s").level(level), "-", "+")
    return [
        (
            entry_id.decode(),
            {
                name.decode(): value
                for name, value in zip(fields[::2], fields[1::2], strict=True)
            },
        )
        for entry_id, fields in rows
    ]


async def bodies(broker: Broker, level: int = 0) -> list[int]:
    return [int(fields["data"]) for _, fields in await stored(broker, level)]


async def length(broker: Broker, level: int = 0) -> int:
    return await broker.control.call("XLEN", broker.keys("s").level(level))
