"""Records: small JSON objects by name, kept beside a stream and changed safely."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from streams.broker import Broker, checked_broker
from streams.broker.server.stored import json_object
from streams.broker.state.records import RecordStore
from streams.common.annotated import holds_to_annotations
from streams.common.log_facts import logger_of
from streams.errors import StreamsError
from streams.events.codec import check_id
from streams.events.names import checked_name

logger = logger_of("records")

Record = dict[str, Any]
_TRIES = 20


@holds_to_annotations
class Records:
    """The records of one kind.

    For settings and registries of an application, hundreds or a few thousand; not for
    what grows with events.

    Args:
        broker: an open broker.
        stream: the stream's name.
        kind: a name for them.
    """

    def __init__(self, broker: Broker, stream: str, kind: str) -> None:
        self._kind = kind
        self._store = RecordStore(
            broker, checked_broker(broker).keys(stream), checked_name(kind, "kind")
        )

    async def all(self) -> dict[str, Record]:
        """Every record by its name, without those that cannot be read. One command."""
        found = (
            (name, self._read(name, text))
            for name, text in sorted((await self._store.all()).items())
        )

        return {name: record for name, record in found if record is not None}

    async def get(self, name: str) -> Record | None:
        """One record; None if there is none, or it cannot be read."""
        return self._read(name, await self._store.get(check_id(name, "name")))

    async def change(
        self, name: str, how: Callable[[Record | None], Record | None]
    ) -> Record | None:
        """Put ``how(record)`` in the place of a record.

        None stands for none. Returns what stands there now.

        ``how`` may be called several times, if others change the record meanwhile. Its
        errors are raised.

        Raises:
            StreamsError: others change it all the time.
        """
        for _ in range(_TRIES):
            before = await self._store.get(check_id(name, "name"))
            changed = how(self._read(name, before))
            after = (
                None
                if changed is None
                else orjson.dumps(changed, option=orjson.OPT_SORT_KEYS)
            )

            if after == before or await self._store.write(name, before, after):
                return changed

        raise StreamsError(f"record {name!r} is changed by others all the time")

    def _read(self, name: str, text: bytes | None) -> Record | None:
        record = None if text is None else json_object(text)
        if text is not None and record is None:
            logger.warning(
                "a record cannot be read and counts as missing",
                extra={"kind": self._kind, "record": name},
            )

        return record
