"""The only part of the package that talks to the server: one module per concern, its Lua beside it."""

from streams.broker.connection import Backoff, Broker, ServerClock
from streams.broker.observing import Observer

__all__ = ["Backoff", "Broker", "Observer", "ServerClock"]
