"""The holder: puts aside what a pause by attribute covers, before it starts."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from streams.broker.fetch import Delivery
from streams.broker.holding import LOST, MAY_START, PROBES, Hold, Holding
from streams.consuming.desk import Desk
from streams.consuming.settler import Settler
from streams.keys import parse_scope
from streams.retry import AttemptRecord


class Holder:
    """Holds back entries by attributes of their events.

    Args:
        desk: what the parts of the consumer share.
        holding: of the group.
        settler: takes back what could not be decided.
    """

    def __init__(self, desk: Desk, holding: Holding, settler: Settler) -> None:
        self._desk = desk
        self._holding = holding
        self._settler = settler
        self._scopes: dict[str, dict[str, str]] = {}
        self.scopes: frozenset[str] = frozenset()
        """What is paused by attribute, as of the last look."""

    def hold(self, scopes: frozenset[str]) -> None:
        """Hold back what these scopes cover, from now on."""
        self.scopes, self._scopes = scopes, {}
        for scope in sorted(scopes):
            _, _, attribute, value = parse_scope(scope)
            self._scopes.setdefault(attribute, {})[value] = scope

    async def admit(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Those that no pause covers.

        Raises:
            BrokerError: the server could not be asked; then all are given back.
        """
        free: list[Delivery] = []
        asked: list[Hold] = []
        for delivery in deliveries:
            scope = self._scope_of(delivery.fields)
            if scope is None:
                free.append(delivery)
            else:
                record = AttemptRecord.from_json(delivery.record)
                record.held = scope
                asked.append(Hold(delivery, scope, record.to_json()))
        if not asked:
            return free
        try:
            answers = await self._holding.hold(asked)
        except BaseException:
            for delivery in deliveries:
                self._settler.postpone(delivery, 0.0, "released")
            raise
        for (delivery, scope, _), answer in zip(asked, answers, strict=True):
            if answer in (MAY_START, PROBES):
                delivery.probing = scope if answer == PROBES else ""
                free.append(delivery)
            else:
                self._settler.drop(delivery)
                if answer == LOST:
                    self._desk.stats.lost += 1
                else:
                    self._desk.stats.held += 1
        return free

    def _scope_of(self, fields: Sequence[bytes]) -> str | None:
        named = dict(zip(fields[::2], fields[1::2], strict=False))
        values = {"type": named.get(b"type", b"").decode("utf-8", "replace")}
        if set(self._scopes) - {"type"}:
            try:
                meta = orjson.loads(named.get(b"meta") or b"{}")
            except orjson.JSONDecodeError:
                meta = {}  # The intake says so.
            values = {**meta, **values} if isinstance(meta, dict) else values
        for attribute, scopes in self._scopes.items():
            value = values.get(attribute)
            if isinstance(value, str) and value in scopes:
                return scopes[value]
        return None
