"""The only part of the package that talks to the server: one module per concern, its Lua beside it."""

from streams.broker.connection import Backoff, Broker, ServerClock

__all__ = ["Backoff", "Broker", "ServerClock"]
