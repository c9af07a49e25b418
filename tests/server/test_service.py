"""The service: signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from streams import Broker, Event
from streams.handlers.plans import GroupPlan
from streams.handlers.routes import Route, Router
from streams.producer import Producer
from streams.worker.service import Service
from tests.conftest import eventually

pytestmark = pytest.mark.in_turn


async def test_a_second_signal_in_the_midst_of_the_first_is_counted(
    broker, monkeypatch
):
    class Interrupted(threading.Timer):
        """Gets a signal while it is made and while it is started, if someone handles signals by then."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._interrupt()

        def start(self) -> None:
            super().start()
            self._interrupt()

        def _interrupt(self) -> None:
            if signal.getsignal(signal.SIGHUP) not in (signal.SIG_DFL, signal.SIG_IGN):
                signal.raise_signal(signal.SIGHUP)

    handled = asyncio.Event()

    async def handler(event: Event) -> None:
        del event
        handled.set()

    monkeypatch.setattr("streams.worker.service.threading.Timer", Interrupted)
    router = Router()
    router.add(Route(handler))
    await Producer(broker, "orders").publish(1, type="t")
    task = asyncio.create_task(
        Service(broker, [GroupPlan("orders", "billing", router, 2.0, 4)]).run()
    )
    await asyncio.wait_for(handled.wait(), 5)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, 5)
    await eventually(
        lambda: not any(isinstance(t, Interrupted) for t in threading.enumerate()),
        what="no timer left",
    )


@pytest.mark.parametrize("step", range(6))
async def test_two_orders_of_an_init_system_and_a_supervisor_are_one(
    broker, monkeypatch, step
):
    """However far the first has come when the second one arrives."""
    monkeypatch.setattr("streams.worker.service.is_supervised", lambda: True)
    service = Service(broker, [GroupPlan("orders", "billing", Router(), 2.0, 4)])
    stops, steps = [], iter(range(100))
    take = service._take

    def counted(way: str) -> None:
        stops.append(1)
        take(way)

    monkeypatch.setattr(service, "_take", counted)

    def trace(frame: FrameType, what: str, _: object) -> Any:
        if what == "line" and next(steps) == step:
            signal.raise_signal(signal.SIGTERM)
        return trace if frame.f_code.co_name == "received" else None

    task = asyncio.create_task(service.run())
    await eventually(lambda: signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        sys.settrace(before)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(task, 10)
    assert stops == [1]


async def test_a_signal_is_told_to_what_handled_it_before(broker):
    told = []

    def before(number: int, frame: FrameType | None) -> None:
        told.append(number)

    original = signal.signal(signal.SIGTERM, before)
    try:
        running = asyncio.create_task(
            Service(broker, [GroupPlan("orders", "billing", Router(), 2.0, 4)]).run()
        )
        await eventually(lambda: signal.getsignal(signal.SIGTERM) is not before)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(running, 10)
        assert told == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, original)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
async def test_what_handled_a_signal_before_cannot_interrupt_the_end(broker, raised):
    """The command line's own handler of Ctrl-C does, and so do programs that call ``sys.exit`` in theirs."""
    done, handled = [], asyncio.Event()

    def before(number: int, frame: FrameType | None) -> None:
        raise raised

    async def handler(event: Event) -> None:
        handled.set()
        await asyncio.sleep(0.3)
        done.append(event.data)

    router = Router()
    router.add(Route(handler))
    await Producer(broker, "orders").publish(1, type="t")
    original = signal.signal(signal.SIGINT, before)
    try:
        running = asyncio.create_task(
            Service(broker, [GroupPlan("orders", "billing", router, 2.0, 4)]).run()
        )
        await asyncio.wait_for(handled.wait(), 30)
        signal.raise_signal(signal.SIGINT)
        await asyncio.wait_for(running, 30)
    finally:
        signal.signal(signal.SIGINT, original)
    assert done == [1]


async def test_a_service_takes_back_no_signal_that_others_have_taken_since(broker):
    def since(number: int, frame: FrameType | None) -> None: ...

    service = Service(broker, [GroupPlan("orders", "billing", Router(), 2.0, 4)])
    original = signal.getsignal(signal.SIGTERM)
    try:
        running = asyncio.create_task(service.run())
        await eventually(lambda: signal.getsignal(signal.SIGTERM) is not original)
        signal.signal(signal.SIGTERM, since)
        service.stop()
        await asyncio.wait_for(running, 10)
        assert signal.getsignal(signal.SIGTERM) is since
    finally:
        signal.signal(signal.SIGTERM, original)


async def test_workers_that_end_as_they_began_leave_the_signals_to_others(broker):
    """The second one puts back the handler of the first one, which has ended by then."""
    told = []

    def before(number: int, frame: FrameType | None) -> None:
        told.append(number)

    original = signal.signal(signal.SIGTERM, before)
    try:
        services = [
            Service(broker, [GroupPlan(stream, "billing", Router(), 2.0, 4)])
            for stream in ("orders", "mails")
        ]
        tasks = []
        for service in services:
            current = signal.getsignal(signal.SIGTERM)
            tasks.append(asyncio.create_task(service.run()))
            await eventually(
                lambda old=current: signal.getsignal(signal.SIGTERM) is not old
            )
        services[0].stop()
        await asyncio.wait_for(tasks[0], 10)
        signal.raise_signal(signal.SIGTERM)
        assert told == [signal.SIGTERM]
        await asyncio.wait_for(tasks[1], 10)
        signal.raise_signal(signal.SIGTERM)
        assert told == [signal.SIGTERM] * 2
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, original)


def test_a_worker_whose_event_loop_was_given_up_handles_no_signal():
    told = []

    def before(number: int, frame: FrameType | None) -> None:
        told.append(number)

    service = Service(
        Broker("redis://localhost"), [GroupPlan("s", "g", Router(), 2.0, 4)]
    )
    signals = service._signals()

    async def begin() -> None:
        signals.__enter__()

    original = signal.signal(signal.SIGTERM, before)
    try:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin())
        loop.close()
        signal.raise_signal(signal.SIGTERM)
        assert told == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signals.__exit__(None, None, None)
        signal.signal(signal.SIGTERM, original)


async def test_without_signals_the_handlers_stay_as_they_are(broker):
    handlers = [
        signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    ]
    service = Service(broker, [GroupPlan("orders", "billing", Router(), 2.0, 4)])
    running = asyncio.create_task(service.run(signals=False))
    await eventually(
        lambda: bool(service.consumers) and service.consumers[0].vitals is not None
    )
    assert [
        signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    ] == handlers
    service.stop()
    await asyncio.wait_for(running, 10)


async def test_a_signal_and_a_call_are_one_order_and_two_of_either_are_two(broker):
    handling, go_on, ended = asyncio.Event(), asyncio.Event(), []

    async def handler(event: Event) -> None:
        handling.set()
        try:
            await go_on.wait()
        finally:
            ended.append("ended" if go_on.is_set() else "cancelled")

    router = Router()
    router.add(Route(handler))
    for orders, how in (
        (("signal", "call"), "ended"),
        (("signal", "call", "call"), "cancelled"),
    ):
        handling.clear()
        go_on.clear()
        await Producer(broker, "orders").publish(1, type="t")
        service = Service(broker, [GroupPlan("orders", "billing", router, 2.0, 4)])
        running = asyncio.create_task(service.run())
        await asyncio.wait_for(handling.wait(), 10)
        for order in orders:
            if order == "signal":
                signal.raise_signal(signal.SIGTERM)
                await eventually(lambda service=service: service._stops == 1)
            else:
                service.stop()
        if how == "ended":
            go_on.set()
        await asyncio.wait_for(running, 10)
        assert ended.pop() == how
