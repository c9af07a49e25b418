"""The gate of a process, in virtual time: who waits for whom, and for how long at most."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass

import pytest

from streams.consuming.isolation import FIRST_WAIT, LONGEST, REST, Isolation, Suspects
from tests.virtual.loop import VirtualLoop

HOUR = 3600.0


@dataclass
class Hand:
    in_hand: bool = False


def play(story: Coroutine[None, None, None]) -> None:
    loop = VirtualLoop(1)
    try:
        loop.run_until_complete(story)
    finally:
        loop.close()


def never() -> bool:
    return False


def test_the_gate_closes_when_nothing_is_in_hand_and_opens_when_the_suspect_has_ended():
    async def story() -> None:
        gate, mine, other = Isolation(), Hand(), Hand(in_hand=True)
        gate.join(mine)
        gate.join(other)
        with gate:
            closing = asyncio.create_task(gate.close(never))
            await asyncio.sleep(1)
            passing = asyncio.create_task(gate.wait_open(never))
            other.in_hand = False
            gate.tell()
            await asyncio.sleep(1)
            assert not closing.done(), (
                "a read was under way, and may have taken something"
            )
        assert await closing
        assert await gate.close(never) is False, "it is closed already"
        mine.in_hand = True
        gate.open_when_quiet()
        await asyncio.sleep(1)
        assert gate.is_closed
        assert not passing.done()
        mine.in_hand = False
        gate.tell()
        await passing
        assert not gate.is_closed

    play(story())


def test_a_suspect_that_is_gone_leaves_the_gate_open():
    async def story() -> None:
        gate = Isolation()
        assert await gate.close(never)
        gate.open_when_quiet()
        assert not gate.is_closed

    play(story())


def test_a_neighbour_of_hours_costs_the_others_a_fifth_of_the_time_at_most():
    """Each try is longer than the one before, up to a bound; when the neighbour ends, the suspect has its turn."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        gate, neighbour = Isolation(), Hand(in_hand=True)
        gate.join(neighbour)
        began, closed = loop.time(), []
        while loop.time() < began + 10 * HOUR:
            at = loop.time()
            assert not await gate.close(never)
            if loop.time() > at:
                closed.append(loop.time() - at)
            await asyncio.sleep(0.5)
        assert closed[0] == pytest.approx(FIRST_WAIT)
        assert closed == sorted(closed)
        assert max(closed) == pytest.approx(LONGEST)
        assert sum(closed) <= (10 * HOUR + LONGEST) / (1 + REST)
        assert len(closed) > 10, "the suspect is not forgotten"
        neighbour.in_hand = False
        assert await gate.close(never), "an idle process need not wait"

    play(story())


def test_a_suspect_that_runs_for_hours_is_no_longer_alone():
    async def story() -> None:
        gate, mine = Isolation(), Hand()
        gate.join(mine)
        assert await gate.close(never)
        mine.in_hand = True
        gate.open_when_quiet()
        await asyncio.sleep(LONGEST - 1)
        assert gate.is_closed
        await asyncio.wait_for(gate.wait_open(never), 2)

    play(story())


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
def test_who_stops_while_it_waits_leaves_the_gate_open(how: str):
    async def story() -> None:
        gate, other, stopped = Isolation(), Hand(in_hand=True), asyncio.Event()
        gate.join(other)
        closing = asyncio.create_task(gate.close(stopped.is_set))
        passing = asyncio.create_task(gate.wait_open(never))
        await asyncio.sleep(1)
        assert gate.is_closed
        if how == "stopped":
            stopped.set()
            gate.tell()
        else:
            closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled() or not closing.result()
        await passing

    play(story())


def test_a_busy_process_waits_for_a_moment_and_an_idle_one_does_not():
    async def story() -> None:
        gate, hand = Isolation(), Hand(in_hand=True)
        gate.join(hand)
        suspects = Suspects(gate)
        assert not suspects.is_time
        suspects.saw("0|1-0")
        assert not suspects.is_time
        await asyncio.sleep(1)
        suspects.saw("0|2-0")
        await asyncio.sleep(0.6)
        assert suspects.is_time, "another one does not begin the wait anew"
        suspects.saw("")
        suspects.saw("0|3-0")
        assert not suspects.is_time
        hand.in_hand = False
        assert suspects.is_time

    play(story())


def test_one_gate_for_all_of_a_broker():
    class Broker:
        pass

    one, two = Broker(), Broker()
    assert Isolation.of(one) is Isolation.of(one) is not Isolation.of(two)
