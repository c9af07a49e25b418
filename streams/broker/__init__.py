"""The only part of the package that talks to the server: one module per concern, its Lua beside it."""

from streams.broker.connection import Backoff, Broker, ServerClock, checked_broker
from streams.broker.observing import Observer

__all__ = ["Backoff", "Broker", "Observer", "ServerClock", "checked_broker"]
