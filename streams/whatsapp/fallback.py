"""The stand-in: an embedded server that takes messages while the real one is away, and hands them over afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from streams.common.log_facts import logger_of
from streams.errors import BrokerError, StreamsError
from streams.whatsapp.application import Application, fallback_folder, fallback_url
from streams.whatsapp.relay import Relay

logger = logger_of("whatsapp")
_EVERY = 5.0
"""Seconds between looks for the real server."""


class StandIn:
    """Waits, in a thread, for the real server; lets everything go on there, and hands over what was taken meanwhile.

    Args:
        wanted: the application on the real server.
        made: the one that is in use; the same if the real server was there at the start.
        switch: called once with ``wanted`` when that is back; it ends the worker of the embedded queue.
    """

    def __init__(
        self,
        wanted: Application,
        made: Application,
        switch: Callable[[Application], None],
    ) -> None:
        self._wanted = wanted
        self._made = made
        self._switch = switch
        self._end = threading.Event()
        self._relay: Relay | None = None
        self._thread = threading.Thread(
            target=self._run, name="whatsapp-relay", daemon=True
        )

    @property
    def is_needed(self) -> bool:
        """Whether the embedded server stands in now, or has something left of an earlier time."""
        if self._made is not self._wanted:
            return True
        folder = fallback_folder(self._wanted.environ)
        return (
            not self._wanted.is_embedded and folder.is_dir() and any(folder.iterdir())
        )

    @property
    def handed_over(self) -> int:
        """How many messages the real server got from here."""
        return self._relay.done.messages if self._relay is not None else 0

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self, timeout: float = 15.0) -> None:
        """End within ``timeout`` seconds or so; what is left is handed over another time."""
        self._end.set()
        if self._relay is not None:
            self._relay.stop()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            if self._made is not self._wanted:
                while not self._is_back():
                    if self._end.wait(_EVERY):
                        return
                logger.warning("the server is back: messages go there again")
                self._switch(self._wanted)
            target = self._wanted.pipeline.settings
            self._relay = Relay(
                fallback_url(target, self._wanted.environ),
                target,
                self._wanted.settings,
            )
            while not self._end.is_set():
                try:
                    asyncio.run(self._relay.run())
                    break
                except BrokerError as error:
                    logger.warning(
                        "the relay waits for the server", extra={"error": str(error)}
                    )
                    self._end.wait(_EVERY)
            if self._made is not self._wanted:
                self._made.pipeline.close()
        except StreamsError:
            logger.exception(
                "what the embedded server took cannot be handed over now; the next start tries again"
            )

    def _is_back(self) -> bool:
        try:
            self._wanted.pipeline.status().streams()
        except StreamsError:
            return False
        return True
