"""What a pipeline declares: streams, groups, and the handlers of each group."""

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
    """Event types that this handler serves; several handlers may share a group. None: every other type."""
    retry: RetryPolicy
    """When a failed event is tried again: a ``Retry``, or a policy of your own."""
    timeout: Seconds | None
    """Seconds, or a ``timedelta``, after which an attempt is cancelled and counts as failed."""
    lease: Seconds
    """Seconds of silence, or a ``timedelta``, after which an entry of this group counts as stalled. Default: the
    settings' (30)."""
    concurrency: int
    """The most handlers of this group at once, in one process. Default: the settings' (100; 32 with a ``def``)."""
    limits: Iterable[Limit]
    """How often events of one key may start; see ``Limit``."""
    order_by: Attributes
    """Attribute of the event, or several, by whose value events of the group run one after the other; see
    ``docs/order.md``. None: they need not."""
    on_dead: OnDead
    """What an event that dies does to its ``order_by`` key: ``continue`` with the next, or ``hold`` for an operator."""
    fair_by: Attributes
    """Attribute of the event, or several, among whose values starts are shared out in turns. None: first come."""
    fair_weights: Mapping[str, int] | None
    """Shares of values of ``fair_by``, 1 where it is not named."""
    start: Start
    """Where a group begins that is declared for the first time: ``oldest`` (the default: what is stored) or ``new``."""


@dataclasses.dataclass(slots=True)
class _Group:
    router: Router
    lease: float | None = None
    concurrency: int | None = None
    start: Start | None = None
    lanes: Lanes | None = None


class StreamPlan(NamedTuple):
    """What is declared of one stream: what is written down, and how workers share their slots among its levels."""

    declaration: Declaration = AS_IT_IS
    weights: Mapping[int, int] | None = None
    max_wait: float | None = None
    partitions: Partitions = ONE


class Registry:
    """The declarations of one pipeline. Its length is the number of groups that have handlers."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], _Group] = {}
        self._streams: dict[str, StreamPlan] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def add_handler(
        self, place: tuple[str, str], function: HandlerFunction, options: HandlerOptions
    ) -> None:
        """Add a handler to the group that ``place`` names, stream and group.

        Raises:
            ConfigurationError: an option is refused, or contradicts another handler of the group.
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
        own = self._own(options)
        known = self._groups.get(place) or _Group(Router())
        if known.lanes is not None and known.lanes != lanes:
            raise ConfigurationError(
                f"order_by, on_dead, fair_by and fair_weights belong to the group {place[1]!r} of stream {place[0]!r}: "
                "give every handler of it the same"
            )
        for name in ("lease", "concurrency", "start"):
            wanted, present = own.get(name), getattr(known, name)
            if wanted is not None and present is not None and wanted != present:
                raise ConfigurationError(
                    f"group {place[1]!r} of stream {place[0]!r} has {name}={present} already: it belongs to the group"
                )
        known.router.add(route)
        known.lanes = lanes
        known.lease = own.get("lease", known.lease)
        known.concurrency = own.get("concurrency", known.concurrency)
        known.start = own.get("start", known.start)
        self._groups[place] = known

    @staticmethod
    def _own(options: HandlerOptions) -> dict[str, Any]:
        """What belongs to the group as a whole; None is as if it were not given."""
        found: dict[str, Any] = {}
        if options.get("lease") is not None:
            found["lease"] = checked_seconds("lease", options["lease"], 0.3, 86_400)
        if options.get("concurrency") is not None:
            found["concurrency"] = checked_number(
                "concurrency", options["concurrency"], 1, 100_000
            )
        if options.get("start") is not None:
            found["start"] = options["start"]
        return found

    def add_stream(self, name: str, plan: StreamPlan) -> None:
        """Add what is declared of a stream.

        Raises:
            ConfigurationError: it is declared already.
        """
        if name in self._streams:
            raise ConfigurationError(
                f"stream {name!r} is declared already: declare it once, with everything"
            )
        self._streams[name] = plan

    def plans(self, settings: Settings, upcasters: Upcasters) -> list[GroupPlan]:
        """The groups, with the settings filled in.

        Raises:
            ConfigurationError: a stream that is declared for one group has handlers of several.
        """
        plans = []
        for (stream, group), found in self._groups.items():
            declared = self._streams.get(stream, StreamPlan())
            lanes = found.lanes or NO_LANES
            checked_spread(stream, declared.partitions, lanes, found.router.limits())
            plans.append(
                GroupPlan(
                    stream,
                    group,
                    found.router.with_upcasters(upcasters),
                    found.lease or settings.lease,
                    found.concurrency
                    or said_slots(settings.concurrency, found.router.slots),
                    self._declaration(stream, found),
                    declared.weights,
                    declared.max_wait,
                    lanes,
                    declared.partitions,
                )
            )
        return plans

    def _declaration(self, stream: str, group: _Group) -> Declaration:
        declared = self._streams.get(stream, StreamPlan()).declaration
        # Every group served here is declared by whichever consumer starts first, before it handles anything.
        served = {
            name: found.start
            for (where, name), found in self._groups.items()
            if where == stream
        }
        return dataclasses.replace(
            declared,
            groups=(*declared.groups, *served),
            start=group.start or "oldest",
            new=tuple(name for name, start in served.items() if start == "new"),
        )


def checked_spread(
    stream: str, partitions: Partitions, lanes: Lanes, limits: Iterable[Limit]
) -> None:
    """Refuse what would hold for each partition by itself, where it is meant for the stream.

    Raises:
        ConfigurationError: an order or a limit is by something that is found on several partitions.
    """
    if partitions.count == 1:
        return
    by = partitions.by
    if lanes.order_by and by not in lanes.order_by:
        raise ConfigurationError(
            f"stream {stream!r} is spread by {by!r}, and order_by is {', '.join(lanes.order_by)}: events of one order "
            f"would be on several partitions. Spread it by {lanes.order_by[0]!r}"
        )
    for limit in limits:
        names = (limit.by,) if isinstance(limit.by, str) else limit.by
        if not isinstance(names, tuple) or by not in names:
            raise ConfigurationError(
                f"stream {stream!r} is spread by {by!r}: the limit {limit.name!r} would hold for each partition by "
                f"itself. Limit by {by!r}, or spread by what is limited"
            )


def checked_options(options: Mapping[str, Any]) -> None:
    """Refuse a keyword that ``Pipeline.handler`` does not know.

    Raises:
        ConfigurationError: there is one.
    """
    unknown = set(options) - set(HandlerOptions.__annotations__)
    if unknown:
        raise ConfigurationError(
            f"handler() does not know {', '.join(sorted(unknown))}; "
            f"it knows {', '.join(sorted(HandlerOptions.__annotations__))}"
        )
