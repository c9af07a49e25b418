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
        self._scopes: dict[str, dict[str, list[str]]] = {}
        self.scopes: frozenset[str] = frozenset()
        """What is paused by attribute, as of the last look."""

    def hold(self, scopes: frozenset[str]) -> None:
        """Hold back what these scopes cover, from now on."""
        self.scopes, self._scopes = scopes, {}
        for scope in sorted(scopes):
            _, _, attribute, value = parse_scope(scope)
            self._scopes.setdefault(attribute, {}).setdefault(value, []).append(scope)

    async def admit(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Those that no pause covers.

        Raises:
            BrokerError: the server could not be asked; then all are given back.
        """
        free: list[Delivery] = []
        covered: list[tuple[Delivery, list[str]]] = []
        for delivery in deliveries:
            scopes = self._scopes_of(delivery.fields)
            if scopes:
                covered.append((delivery, scopes))
            else:
                free.append(delivery)
        while covered:
            try:
                answers = await self._holding.hold([_asked(delivery, scopes[0]) for delivery, scopes in covered])
            except BaseException:
                for delivery in (*free, *(delivery for delivery, _ in covered)):
                    self._settler.postpone(delivery, 0.0, "released")
                raise
            passed = [row for row, answer in zip(covered, answers, strict=True) if self._passes(*row, answer)]
            free += [delivery for delivery, scopes in passed if not scopes[1:]]
            covered = [(delivery, scopes[1:]) for delivery, scopes in passed if scopes[1:]]
        return free

    def _passes(self, delivery: Delivery, scopes: list[str], answer: int) -> bool:
        """Whether an entry is not put aside for the first of these scopes."""
        if answer in (MAY_START, PROBES):
            delivery.probing = scopes[0] if answer == PROBES else delivery.probing
            return True
        self._settler.drop(delivery)
        if answer == LOST:
            self._desk.stats.lost += 1
        else:
            self._desk.stats.held += 1
        return False

    def _scopes_of(self, fields: Sequence[bytes]) -> list[str]:
        """The pauses that cover an event; last those of one group, for a circuit breaker's may let it through."""
        named = dict(zip(fields[::2], fields[1::2], strict=False))
        values = {"type": named.get(b"type", b"").decode("utf-8", "replace")}
        if set(self._scopes) - {"type"}:
            try:
                meta = orjson.loads(named.get(b"meta") or b"{}")
            except orjson.JSONDecodeError:
                meta = {}  # The intake says so.
            values = {**meta, **values} if isinstance(meta, dict) else values
        found: list[str] = []
        for attribute, scopes in self._scopes.items():
            value = values.get(attribute)
            if isinstance(value, str):
                found += scopes.get(value, ())
        return sorted(found, key=lambda scope: bool(parse_scope(scope)[0]))


def _asked(delivery: Delivery, scope: str) -> Hold:
    record = AttemptRecord.from_json(delivery.record)
    record.held = scope
    return Hold(delivery, scope, record.to_json())
