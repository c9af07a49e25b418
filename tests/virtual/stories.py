"""Stories in virtual time: one seed is played to its end, and its balance is drawn."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from streams.consumer import Consumer
from tests.virtual.loop import VirtualLoop
from tests.virtual.modelled import (
    LoopKeeper,
    ModelFetching,
    ModelRedeclaring,
    ModelSettling,
)
from tests.virtual.world import CANCEL_GRACE, RETRIES, World

Story = Callable[[int, VirtualLoop], Coroutine[Any, Any, "World"]]


def play(seed: int, patch: pytest.MonkeyPatch, story: Story | None = None) -> World:
    """Run one seed from its first event to the last one settled; what went wrong is in ``wrong``."""
    random.seed(seed)  # The jitter of waiting times.
    loop = VirtualLoop(seed)
    clock = SimpleNamespace(monotonic=loop.time)
    for module in ("fetcher", "lease_renewer", "executor"):
        patch.setattr(f"streams.consuming.{module}.time", clock)
    patch.setattr("streams.consumer.Fetching", ModelFetching)
    patch.setattr("streams.consumer.Settling", ModelSettling)
    patch.setattr("streams.consumer.Redeclaring", ModelRedeclaring)
    patch.setattr("streams.consumer.LeaseRenewer", LoopKeeper)
    try:
        return loop.run_until_complete((story or _story)(seed, loop))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(5))
        loop.close()


async def _story(seed: int, loop: VirtualLoop) -> World:
    world = World(seed, loop)
    lot = world.lot
    world.leave_suspects(lot.choice([0, 0, 1, 5]))
    sweeping = asyncio.create_task(world.sweep())
    publishing = asyncio.create_task(world.publish(lot.randint(5, 25)))
    first, second = (
        world.consumer(name, lot.choice([1, 2, 5, 40])) for name in ("c1", "c2")
    )
    tasks = {
        name: asyncio.create_task(c.run())
        for name, c in (("c1", first), ("c2", second))
    }
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(lot.random() * 8):
            await world.stop_now.wait()
    await _stop(world, first, tasks["c1"], lot.choice([0.0, 0.5, 5.0]))
    await publishing
    await asyncio.sleep(lot.random() * 8)
    await _stop(world, second, tasks["c2"], lot.choice([0.0, 0.5, 5.0]))
    world.faults = 0.0
    third = world.consumer("c3", 5)
    closing = asyncio.create_task(third.run())
    give_up = loop.time() + 120
    while (world.model.stored or third.held) and loop.time() < give_up:
        await asyncio.sleep(0.5)
    await _stop(world, third, closing, 5.0)
    sweeping.cancel()
    await asyncio.wait([sweeping])
    _balance(world)
    return world


async def _stop(
    world: World, consumer: Consumer, task: asyncio.Task[None], grace: float
) -> None:
    """Stop a consumer and see that it ends in time, having settled or given back what it had."""
    faults = world.faults
    if world.lot.random() < 0.5:
        await _calm(world, consumer)
    world.note(consumer.name, "stops", grace)
    began = world.loop.time()
    world.stopping.add(consumer.name)
    consumer.stop(grace)
    await asyncio.wait([task])
    task.result()
    took = world.loop.time() - began
    # The grace, cancelled handlers, the last trips (5 s at most while the server is away), and what was on its way.
    if took > grace + CANCEL_GRACE + 6.5:
        world.wrong.append(
            f"{consumer.name} took {took:.1f} s to stop with a grace of {grace} s"
        )
    mine = [
        place
        for place, held in world.model.pending.items()
        if held.owner == consumer.name
    ]
    if mine and not world.faults:
        world.wrong.append(f"{consumer.name} ended and left {mine}")
    world.unsure.update(mine)
    world.faults = faults
    world.note(consumer.name, "stopped", consumer.stats.as_dict())


async def _calm(world: World, consumer: Consumer) -> None:
    """Let the server be there all the time, and see that what is not running is settled soon."""
    world.note("calm")
    world.faults = 0.0
    # The settler waits for 5 seconds at most between two tries.
    give_up = world.loop.time() + 8
    while consumer.held > consumer.busy:
        if world.loop.time() > give_up:
            world.wrong.append(
                f"{consumer.name} holds {consumer.held} entries and runs {consumer.busy}"
            )
            break
        await asyncio.sleep(0.01)


def _balance(world: World) -> None:
    model, wrong = world.model, world.wrong
    for place, kind in world.kind.items():
        if place in model.stored:
            wrong.append(
                f"{place} ({kind}) is still stored: {model.pending.get(place)}, due {model.retry.get(place)}"
            )
        elif place in model.dead:
            reason = model.dead[place]
            expected = {
                "reject": {"rejected"},
                "fail": {"retries-used-up"},
                "hang": {"retries-used-up"},
            }
            allowed = expected.get(
                kind, {"retries-used-up"} if kind == "stubborn" else set()
            )
            if place not in world.unsure and reason not in allowed:
                wrong.append(f"{place} ({kind}) died: {reason}")
            if (
                place not in world.unsure
                and kind != "reject"
                and world.failed[place] != RETRIES + 1
            ):
                wrong.append(
                    f"{place} ({kind}) died after {world.failed[place]} failures"
                )
        elif not world.finished[place]:
            wrong.append(f"{place} ({kind}) is gone, and no handler finished it")
    for name, rows in (
        ("pending", model.pending),
        ("retry", model.retry),
        ("records", model.records),
    ):
        if rows:
            wrong.append(f"{name} has left-overs: {dict(list(rows.items())[:3])}")
    current = asyncio.current_task()
    others = [
        t
        for t in asyncio.all_tasks(world.loop)
        if t is not current and t.get_name() != "streams-runner"
    ]
    if others:
        wrong.append(f"tasks are left: {others}")
