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

from streams import Event
from streams.handlers import Route, Router
from streams.plans import GroupPlan
from streams.producer import Producer
from streams.service import Service
from tests.conftest import eventually


async def test_a_second_signal_in_the_midst_of_the_first_is_counted(broker, monkeypatch):
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

    monkeypatch.setattr("streams.service.threading.Timer", Interrupted)
    router = Router()
    router.add(Route(handler))
    await Producer(broker, "orders").publish(1, type="t")
    task = asyncio.create_task(Service(broker, [GroupPlan("orders", "billing", router, 2.0, 4)]).run())
    await asyncio.wait_for(handled.wait(), 5)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, 5)
    await eventually(lambda: not any(isinstance(t, Interrupted) for t in threading.enumerate()), what="no timer left")


@pytest.mark.parametrize("step", range(6))
async def test_two_orders_of_an_init_system_and_a_supervisor_are_one(broker, monkeypatch, step):
    """However far the first has come when the second one arrives."""
    monkeypatch.setattr("streams.service.is_supervised", lambda: True)
    service = Service(broker, [GroupPlan("orders", "billing", Router(), 2.0, 4)])
    stops, steps = [], iter(range(100))
    stop = service.stop

    def counted() -> None:
        stops.append(1)
        stop()

    monkeypatch.setattr(service, "stop", counted)

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
