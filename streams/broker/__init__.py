"""The only part of the package that talks to Redis: one module per concern, with its Lua."""

from streams.broker.entries.observing import Observer
from streams.broker.server.connection import (
    Backoff,
    Broker,
    ServerClock,
    checked_broker,
)

__all__ = ["Backoff", "Broker", "Observer", "ServerClock", "checked_broker"]
