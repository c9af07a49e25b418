"""The options that all groups of a worker share, and the plans of partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from streams.handlers.plans import GroupPlan
from streams.middleware.base import Middleware
from streams.policy.levels import Levels
from streams.policy.partitions import ONE, partition_name
from streams.settings import Settings, Wait


def _nothing() -> None:
    """The default callback."""


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """The options that all groups of a process share.

    Attributes:
        levels: the levels of the streams.
        serve: the levels whose events the worker handles; None: all of them.
        max_event_bytes: the largest body.
        grace_period: seconds for which a shutdown lets handlers run.
        cancel_grace: seconds that a cancelled handler gets to end.
        middleware: the middleware around every attempt, outermost first.
        name: the worker's name; made from host, process and start if empty.
        wait: how the worker waits for the server at its start; see ``Wait``.
        on_reached: called when the server has answered for the first time.
    """

    levels: Levels = Levels()
    max_event_bytes: int = 1024 * 1024
    grace_period: float = 10.0
    cancel_grace: float = 5.0
    middleware: tuple[Middleware, ...] = ()
    name: str = ""
    serve: Levels | None = None
    wait: Wait = "server"
    on_reached: Callable[[], None] = _nothing


def service_options(
    settings: Settings, middleware: Iterable[Middleware]
) -> ServiceOptions:
    """The options in the settings."""
    return ServiceOptions(
        settings.levels,
        settings.max_event_bytes,
        settings.grace_period,
        middleware=tuple(middleware),
        serve=settings.serve_levels,
        wait=settings.wait,
    )


def of_partition(plan: GroupPlan, number: int) -> GroupPlan:
    """The plan for one partition of its stream."""
    return replace(plan, stream=partition_name(plan.stream, number), partitions=ONE)


def every_partition(plans: Iterable[GroupPlan]) -> list[GroupPlan]:
    """A plan for each partition of each stream, to serve all of them in one process."""
    return [
        of_partition(plan, number)
        for plan in plans
        for number in range(plan.partitions.count)
    ]
