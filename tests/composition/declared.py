"""What a seed declares: a random part of all that can be declared, and the changes that a later deploy makes to it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from streams import Levels, Limit, Pipeline, Retry
from streams.middleware import Breaker, Dedupe
from streams.policy.partitions import ONE, Partitions, partition_name
from streams.settings import Settings

STREAM = "s"
WINDOW = 3600.0
LEVELS = ((0,), (0, 5), (0, 5, 10))


@dataclass(frozen=True)
class Group:
    """How one group is served."""

    concurrency: int
    max_retries: int
    lease: float
    order_by: str | None = None
    fair_by: str | None = None
    on_dead: str = "continue"
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True)
class Declared:
    """All of it."""

    levels: tuple[int, ...]
    groups: dict[str, Group] = field(default_factory=dict)
    weights: dict[int, int] | None = None
    max_wait: float | None = None
    breaker: bool = False
    dedupe: bool = False
    """An event id is handled once within ``WINDOW``; the same for all of a run."""
    spread: Partitions = ONE
    """The same for all of a run."""
    serve: tuple[int, ...] | None = None

    @property
    def streams(self) -> list[str]:
        """The partitions of the stream."""
        return [partition_name(STREAM, number) for number in range(self.spread.count)]

    def pipeline(self, url: str, namespace: str, handle: Any) -> Pipeline:
        """A program that declares it; ``handle`` is told the group and the event."""
        serve = Levels(self.serve) if self.serve else None
        settings = Settings(
            url=url, namespace=namespace, levels=Levels(self.levels), serve_levels=serve
        )
        middleware: list[Any] = [Dedupe(WINDOW, busy=5.0)] if self.dedupe else []
        middleware += (
            [Breaker("instance", failures=0.5, minimum=2, open_for=20.0)]
            if self.breaker
            else []
        )
        pipeline = Pipeline(settings=settings, middleware=middleware)
        retention = "fanout" if len(self.groups) > 1 else None
        ruled: dict[str, Any] = {"weights": self.weights, "max_wait": self.max_wait}
        pipeline.stream(STREAM, retention=retention, partitions=self.spread, **ruled)
        for name, group in self.groups.items():
            pipeline.handler(
                STREAM,
                group=name,
                retry=Retry(
                    max_retries=group.max_retries,
                    delay=5.0,
                    backoff="fixed",
                    jitter=0.0,
                ),
                concurrency=group.concurrency,
                lease=group.lease,
                order_by=group.order_by,
                fair_by=group.fair_by,
                on_dead=group.on_dead,
                limits=group.limits,
            )(handle(name))
        return pipeline

    def features(self) -> set[str]:
        """What is used of what there is, for the count of what the seeds reached."""
        found = {f"levels-{len(self.levels)}", f"groups-{len(self.groups)}"}
        found |= {
            name
            for name in ("weights", "max_wait", "breaker", "dedupe", "serve")
            if getattr(self, name)
        }
        found |= {f"partitions-by-{self.spread.by}"} if self.spread.count > 1 else set()
        for group in self.groups.values():
            found |= {name for name in ("order_by", "fair_by") if getattr(group, name)}
            found |= {"hold"} if group.on_dead == "hold" else set()
            found |= {f"limit-{limit.name}" for limit in group.limits}
        return found


def draw(lot: random.Random) -> Declared:
    """Anything at all."""
    levels, by_key = lot.choice(LEVELS), lot.random() < 0.7
    spread = (
        Partitions(lot.randint(2, 3), lot.choice(["key", "tenant"]))
        if lot.random() < 0.25
        else ONE
    )
    drawn = Declared(
        levels,
        {
            name: _group(lot, by_key=by_key)
            for name in (["a", "b"] if lot.random() < 0.25 else ["a"])
        },
        weights={level: lot.randint(1, 4) for level in levels}
        if lot.random() < 0.25
        else None,
        max_wait=lot.choice([5.0, 60.0]) if not by_key and lot.random() < 0.5 else None,
        breaker=lot.random() < 0.3,
        dedupe=lot.random() < 0.25,
        spread=spread,
    )
    return _fitting(drawn)


def _fitting(declared: Declared) -> Declared:
    """Orders and limits that hold for the whole stream: by what it is spread by."""
    if declared.spread.count == 1:
        return declared
    by = declared.spread.by
    groups = {
        name: replace(
            group,
            order_by=group.order_by and by,
            limits=tuple(limit for limit in group.limits if limit.by == by),
        )
        for name, group in declared.groups.items()
    }
    return replace(declared, groups=groups)


def _group(lot: random.Random, *, by_key: bool) -> Group:
    order_by = lot.choice([None, "key", "key", "subject"]) if by_key else None
    return Group(
        concurrency=lot.choice([1, 2, 3, 8]),
        max_retries=lot.choice([0, 1, 2]),
        lease=lot.choice([20.0, 30.0, 60.0]),
        order_by=order_by,
        fair_by=lot.choice([None, "tenant"]) if by_key else None,
        on_dead=lot.choice(["continue", "hold"]) if order_by else "continue",
        limits=_limits(lot),
    )


def _limits(lot: random.Random) -> tuple[Limit, ...]:
    slots = Limit("tenant", name="slots", concurrency=lot.choice([1, 1, 2]))
    rate = Limit(
        "instance",
        name="rate",
        rate=lot.choice(["6/m", "30/m"]),
        burst=lot.choice([1, 2]),
    )
    both = Limit("tenant", name="both", rate="30/m", burst=1, concurrency=1)
    return lot.choice([(), (), (slots,), (slots,), (rate,), (slots, rate), (both,)])


def redraw(lot: random.Random, before: Declared) -> Declared:
    """The same after another deploy: one or two things are different."""
    declared = before
    for _ in range(lot.randint(1, 2)):
        declared = lot.choice(_CHANGES)(lot, declared)
    return _fitting(declared)


def _of_group(lot: random.Random, declared: Declared, **changes: Any) -> Declared:
    name = lot.choice(sorted(declared.groups))
    return replace(
        declared,
        groups=declared.groups | {name: replace(declared.groups[name], **changes)},
    )


def _levels(lot: random.Random, declared: Declared) -> Declared:
    levels = lot.choice(LEVELS)
    # A level that had events is given up only when it is empty (docs/workers.md): here levels only grow.
    levels = tuple(sorted({*declared.levels, *levels}))
    weights = (
        {level: lot.randint(1, 4) for level in levels} if declared.weights else None
    )
    return replace(declared, levels=levels, weights=weights)


def _order(lot: random.Random, declared: Declared) -> Declared:
    if declared.max_wait is not None:
        return declared
    order_by = lot.choice(["key", "subject", None])
    return _of_group(lot, declared, order_by=order_by, on_dead="continue")


def _fair(lot: random.Random, declared: Declared) -> Declared:
    return (
        declared
        if declared.max_wait is not None
        else _of_group(lot, declared, fair_by=lot.choice([None, "tenant"]))
    )


_CHANGES = (
    _levels,
    _order,
    _fair,
    lambda lot, declared: _of_group(lot, declared, limits=_limits(lot)),
    lambda lot, declared: _of_group(lot, declared, max_retries=lot.choice([0, 1, 2])),
    lambda lot, declared: _of_group(
        lot, declared, lease=lot.choice([20.0, 30.0, 60.0])
    ),
    lambda lot, declared: _of_group(lot, declared, concurrency=lot.choice([1, 2, 3])),
)
