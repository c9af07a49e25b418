"""The service: signals."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

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
