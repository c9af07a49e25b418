"""The declarations of a pipeline: streams, groups, and the handlers of each group."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypedDict

from streams.common.arguments import checked_number, checked_seconds
from streams.errors import ConfigurationError
from streams.handlers.plans import GroupPlan
from streams.handlers.routes import HandlerFunction, Route, Router
from streams.handlers.upcasters import Upcasters
from streams.policy.declaration import AS_IT_IS, Declaration, Start, checked_start
from streams.policy.limit import Limit
from streams.policy.ordering import NO_LANES, Attributes, Lanes, OnDead, checked_lanes
from streams.policy.partitions import ONE, Partitions
from streams.policy.retry import RetryPolicy
from streams.quantities import Seconds
from streams.settings import Settings, said_slots


class HandlerOptions(TypedDict, total=False):
    """The keyword arguments of ``Pipeline.handler``, all optional."""

    types: Iterable[str] | None
    """Event types of this handler. None: every type without another handler in its
    group."""
    retry: RetryPolicy
    """When a failed event is tried again: a ``Retry``, or a policy of your own."""
    timeout: Seconds | None
    """Seconds, or a ``timedelta``, after which an attempt is cancelled and fails."""
    lease: Seconds
    """Seconds, or a ``timedelta``, of silence after which an entry of this group is
    stalled. Default: the settings' (30)."""
    concurrency: int
    """The most handlers of this group at once in one process. Default: the settings'
    (100; 32 with a ``def``)."""
    limits: Iterable[Limit]
    """How often events of one key may start; see ``Limit``."""
    order_by: Attributes
    """One attribute of the event, or several. Events of the group with the same value run
    one after the other; see ``docs/order.md``. None: there is no order."""
    on_dead: OnDead
    """The effect of a dead event on its ``order_by`` key: ``continue`` with the next event,
    or ``hold`` the key for an operator."""
    fair_by: Attributes
    """One attribute of the event, or several. Starts are shared among its values. None:
    first come, first served."""
    fair_weights: Mapping[str, int] | None
    """The share of each value of ``fair_by``; 1 for values without a weight."""
    start: Start
    """The first event of a new group: ``oldest`` (the default), or ``new`` for events that
    are published later."""


@dataclasses.dataclass(slots=True)
class _Group:
    router: Router
    lease: float | None = None
    concurrency: int | None = None
    start: Start | None = None
    lanes: Lanes | None = None


class StreamPlan(NamedTuple):
    """One declared stream, and how workers divide their slots among its levels."""

    declaration: Declaration = AS_IT_IS
    weights: Mapping[int, int] | None = None
    max_wait: float | None = None
    partitions: Partitions = ONE


class Declarations:
    """The declarations of one pipeline. Its length is the number of groups."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], _Group] = {}
        self._streams: dict[str, StreamPlan] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def add_handler(
        self, place: tuple[str, str], function: HandlerFunction, options: HandlerOptions
    ) -> None:
        """Add a handler to a group; ``place`` is its stream and its name.

        Raises:
            ConfigurationError: an option is invalid, or contradicts another handler of
                the group.
        """
        checked_start(options.get("start", "oldest"))
        route = Route(
            function,
            types=options.get("types"),
            retry=options.get("retry"),
            timeout=options.get("timeout"),
            limits=options.get("limits", ()),
        )
        lanes = checked_lanes(
            options.get("order_by"),
            options.get("fair_by"),
            options.get("on_dead", "continue"),
            options.get("fair_weights"),
        )
        own = _group_options(options)
        known = self._groups.get(place) or _Group(Router())
        named = f"group {place[1]!r} of stream {place[0]!r}"
        if known.lanes is not None and known.lanes != lanes:
            raise ConfigurationError(
                "order_by, on_dead, fair_by and fair_weights belong to the "
                f"{named}: give every handler of it the same"
            )

        for name, wanted in own.items():
            present = getattr(known, name)
            if present is not None and wanted != present:
                raise ConfigurationError(
                    f"{named} has {name}={present} already: it belongs to the group"
                )

        known.router.add(route)
        known.lanes = lanes
        for name, wanted in own.items():
            setattr(known, name, wanted)

        self._groups[place] = known

    def add_stream(self, name: str, plan: StreamPlan) -> None:
        """Add the declaration of a stream.

        Raises:
            ConfigurationError: the stream is declared already.
        """
        if name in self._streams:
            raise ConfigurationError(
                f"stream {name!r} is declared already: declare it once, with everything"
            )

        self._streams[name] = plan

    def plans(self, settings: Settings, upcasters: Upcasters) -> list[GroupPlan]:
        """The groups, with defaults from the settings.

        Raises:
            ConfigurationError: a stream that is declared for one group has handlers of
                several.
        """
        plans = []
        for (stream, group), found in self._groups.items():
            declared = self._streams.get(stream, StreamPlan())
            lanes = found.lanes or NO_LANES
            checked_spread(stream, declared.partitions, lanes, found.router.limits())
            slots = said_slots(settings.concurrency, found.router.slots)
            plan = GroupPlan(
                stream=stream,
                group=group,
                router=found.router.with_upcasters(upcasters),
                lease=found.lease or settings.lease,
                concurrency=found.concurrency or slots,
                declaration=self._declaration(stream, found),
                weights=declared.weights,
                max_wait=declared.max_wait,
                lanes=lanes,
                partitions=declared.partitions,
            )
            plans.append(plan)

        return plans

    def _declaration(self, stream: str, group: _Group) -> Declaration:
        declared = self._streams.get(stream, StreamPlan()).declaration
        # The first consumer declares all groups, before it handles an event.
        served = {}
        for (where, name), found in self._groups.items():
            if where == stream:
                served[name] = found.start

        return dataclasses.replace(
            declared,
            groups=(*declared.groups, *served),
            start=group.start or "oldest",
            new=tuple(name for name in served if served[name] == "new"),
        )


def _group_options(options: HandlerOptions) -> dict[str, Any]:
    """The options that belong to the group as a whole. None is the same as no value."""
    found: dict[str, Any] = {}
    lease = options.get("lease")
    if lease is not None:
        found["lease"] = checked_seconds("lease", lease, 0.3, 86_400)

    concurrency = options.get("concurrency")
    if concurrency is not None:
        found["concurrency"] = checked_number("concurrency", concurrency, 1, 100_000)

    start = options.get("start")
    if start is not None:
        found["start"] = start

    return found


def checked_spread(
    stream: str, partitions: Partitions, lanes: Lanes, limits: Iterable[Limit]
) -> None:
    """Reject order or limits whose key can fall on several partitions.

    They would apply per partition, not per stream.

    Raises:
        ConfigurationError: the order or a limit has such a key.
    """
    if partitions.count == 1:
        return

    by = partitions.by
    if lanes.order_by and by not in lanes.order_by:
        raise ConfigurationError(
            f"stream {stream!r} is spread by {by!r}, "
            f"and order_by is {', '.join(lanes.order_by)}: "
            "events of one order would be on several partitions. "
            f"Spread it by {lanes.order_by[0]!r}"
        )

    for limit in limits:
        names = (limit.by,) if isinstance(limit.by, str) else limit.by
        if not isinstance(names, tuple) or by not in names:
            raise ConfigurationError(
                f"stream {stream!r} is spread by {by!r}: the limit {limit.name!r} "
                "would hold for each partition by itself. "
                f"Limit by {by!r}, or spread by what is limited"
            )


def checked_options(options: Mapping[str, Any]) -> None:
    """Reject unknown keywords of ``Pipeline.handler``.

    Raises:
        ConfigurationError: a keyword is unknown.
    """
    known = HandlerOptions.__annotations__
    unknown = options.keys() - known.keys()
    if unknown:
        raise ConfigurationError(
            f"handler() does not know {', '.join(sorted(unknown))}; "
            f"it knows {', '.join(sorted(known))}"
        )
