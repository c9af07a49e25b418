"""One attempt in progress."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from streams.broker.fetch import Delivery
from streams.event import Event
from streams.handlers import Route


class Run:
    """One attempt in progress. ``why`` says who cancelled it: timeout, lost, shutdown; '' if nobody."""

    __slots__ = ("abandoned", "cancelled_at", "deadline", "delivery", "event", "route", "task", "why")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.task: asyncio.Task[Any] | None = None
        self.route: Route | None = None
        self.event: Event[Any] | None = None
        self.deadline = math.inf
        self.why = ""
        self.cancelled_at = math.inf
        self.abandoned = False
