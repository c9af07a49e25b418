"""Pauses: hold a stream, a group, a level or an attribute, and let it go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypedDict, Unpack

from streams.admin.partitioned import OnPartitions, added, first, no_group, on_each
from streams.broker.admin.pauses import PauseStore, StoredPause
from streams.broker.server.stored import json_object, real
from streams.common.annotated import holds_to_annotations
from streams.errors import ConfigurationError, NotFound
from streams.events.names import checked_name, parse_scope, scope
from streams.policy.limit import ATTRIBUTES

_MOST_REASON = 500
_LONGEST_VALUE = 500


class PausedAttribute(TypedDict, total=False):
    """An attribute of events, at most one, and its value."""

    type: str
    tenant: str
    instance: str
    key: str
    subject: str
    source: str


@dataclass(frozen=True, slots=True)
class Pause:
    """One pause.

    Attributes:
        scope: the held part: ``stream``, ``group=billing``, ``level=5``,
            ``group=billing,level=5``, ``tenant=acme``.
        group: '' for every group.
        level: None for every level.
        attribute: of the events, e.g. ``tenant``; '' for every event.
        value: of that attribute.
        by: the operator who paused it.
        at: since when; Unix seconds, the server's clock.
        reason: why, as given.
        partitions: the numbers of the stream's partitions that it holds; empty where it
            holds all that were asked.
    """

    scope: str
    group: str
    level: int | None
    by: str
    at: float
    reason: str
    attribute: str = ""
    value: str = ""
    partitions: tuple[int, ...] = ()

    def covers(self, group: str, level: int) -> bool:
        """Whether every entry of this group on this level is held by it."""
        return self.scope in (
            scope(),
            scope(group),
            scope(level=level),
            scope(group, level),
        )


PauseList = list[Pause]


class Pausing(NamedTuple):
    """Outcome of a pause: what stands now, and whether it is new or stood already."""

    pause: Pause
    new: bool


@dataclass(frozen=True, slots=True)
class Resumption:
    """Outcome of a resume: the pauses that it ended, and those of the stream that go on."""

    resumed: PauseList
    remaining: PauseList


@holds_to_annotations
class Pauses(OnPartitions):
    """The pauses of one stream, on all of its partitions, later ones included, or on one.

    A scope is the stream, a group, a level, a level of a group, or an attribute of the
    events with its value (``type``, ``tenant``, ``instance``, ``key``, ``subject``,
    ``source``), of every group or of one.

    Paused events are held, not dropped: each stays on its stream or in its retry, no
    attempt is burnt, and running handlers finish. Workers hold within half a second,
    whatever they do at the moment; publishing goes on.

    Args:
        broker: an open broker.
        stream: the stream's name.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    @property
    def _store(self) -> PauseStore:
        return PauseStore(self._broker, self._keys)

    async def pause(
        self,
        *,
        group: str = "",
        level: int | None = None,
        reason: str = "",
        **attribute: Unpack[PausedAttribute],
    ) -> Pausing:
        """Hold the stream, or a group, a level or an attribute of it: ``pause(tenant="acme")``.

        A pause that stands already stays as it was, with its name and reason.

        Raises:
            NotFound: there is no such stream, group or level; the message names those
                that are.
            ConfigurationError: the reason is longer than 500 characters, or the scope
                is none.
        """
        if len(reason) > _MOST_REASON:
            raise ConfigurationError(
                f"reason: at most {_MOST_REASON} characters, not {len(reason)}"
            )

        where = _scope(group, level, attribute)
        # One partition that has it is enough: the others may have no worker yet.
        await self._check(group, level)

        return await self._pause(where, reason)

    async def resume(
        self,
        *,
        group: str = "",
        level: int | None = None,
        **attribute: Unpack[PausedAttribute],
    ) -> Resumption:
        """End the pause of exactly this scope.

        Pauses of other scopes go on, and the outcome names them.

        Nothing happens if it is not paused. Events that were deferred for a pause of an
        attribute come back, which walks through all that waits.

        Raises:
            NotFound: it is not paused, and there is no such stream, group or level.
            ConfigurationError: the scope is none.
        """
        outcome = await self._resume((_scope(group, level, attribute),))
        if not outcome.resumed:
            await self._check(group, level)

        return outcome

    async def resume_all(self) -> Resumption:
        """End every pause of the stream.

        Raises:
            NotFound: nothing is paused, and there is no such stream.
        """
        outcome = await self._resume(())
        if not outcome.resumed:
            await self._check("", None)

        return outcome

    @on_each(lambda found: Pausing(found[0].pause, any(one.new for one in found)))
    async def _pause(self, where: str, reason: str) -> Pausing:
        new, value = await self._store.pause(where, self._by, reason)
        return Pausing(read_pause((where, value)), new)

    @on_each(
        lambda found: Resumption(
            all_pauses([one.resumed for one in found]),
            all_pauses([one.remaining for one in found]),
        )
    )
    async def _resume(self, scopes: tuple[str, ...]) -> Resumption:
        ended, others = await self._store.resume(scopes, self._by)
        resumed = read_pauses(ended)
        attributes = {pause.scope for pause in resumed if pause.attribute}

        for group in await self._groups() if attributes else ():
            await self._store.bring_back(group, attributes)

        return Resumption(resumed, read_pauses(others))

    @on_each(added)
    async def held(self) -> dict[str, int]:
        """How many events were deferred for each pause of an attribute, by scope.

        It walks through what waits.
        """
        return added([await self._store.held(group) for group in await self._groups()])

    @on_each(lambda found: all_pauses(found))
    async def list(self) -> PauseList:
        """Every pause of the stream, in the order of their scopes. One command."""
        return read_pauses(await self._store.all())

    @on_each(first)
    async def _check(self, group: str, level: int | None) -> None:
        levels = await self._levels()
        if level is not None and level not in levels:
            raise NotFound(
                f"stream {self.stream!r} has no level {level!r}; it has: "
                f"{', '.join(map(str, reversed(levels)))}"
            )

        if group:
            checked_name(group, "group")
            names = await self._groups()
            if group not in names:
                hint = ". A group exists once a worker served it"
                raise no_group(self.stream, group, names, hint)


def read_pauses(stored: Iterable[StoredPause]) -> PauseList:
    """Pauses as stored, read."""
    return [read_pause(row) for row in stored]


def read_pause(stored: StoredPause) -> Pause:
    """One pause as stored.

    A pause that another program wrote in other words keeps its scope as text.
    """
    where, value = stored
    group, level, attribute, attribute_value = parse_scope(where)
    facts = json_object(value) or {}
    is_known = attribute in ATTRIBUTES

    return Pause(
        where,
        group,
        level,
        by=str(facts.get("by", "")),
        at=real(facts.get("at")),
        reason=str(facts.get("reason", "")),
        attribute=attribute if is_known else "",
        value=attribute_value if is_known else "",
    )


def _scope(group: str, level: int | None, attribute: Mapping[str, Any]) -> str:
    """The scope that the arguments name.

    Raises:
        ConfigurationError: they name none.
    """
    unknown = set(attribute) - set(ATTRIBUTES)
    if unknown or len(attribute) > 1 or (attribute and level is not None):
        raise ConfigurationError(
            "a pause is of a stream, a group, a level, or one attribute "
            f"({', '.join(ATTRIBUTES)}) with its value, "
            "and that of every group or of one"
        )

    for name, value in attribute.items():
        if not isinstance(value, str) or not value or len(value) > _LONGEST_VALUE:
            raise ConfigurationError(
                f"{name}: a text of 1 to {_LONGEST_VALUE} characters"
            )

        return scope(group, attribute=(name, value))

    return scope(group, level)


def all_pauses(found: Sequence[PauseList]) -> PauseList:
    """The pauses of several partitions, each once; one that does not hold everywhere says where."""
    where: dict[str, list[int]] = {}
    pauses: dict[str, Pause] = {}

    for number, some in enumerate(found):
        for pause in some:
            pauses.setdefault(pause.scope, pause)
            where.setdefault(pause.scope, []).append(number)

    return [
        pause
        if len(where[scope]) == len(found)
        else replace(pause, partitions=tuple(where[scope]))
        for scope, pause in sorted(pauses.items())
    ]
