"""The stand-in: an embedded server for the time of an outage.

It takes messages while the real server is away; a relay hands them over afterwards.
"""

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
"""Seconds between tries to reach the real server."""


class StandIn:
    """A thread that waits for the real server, switches to it, and runs the relay.

    Args:
        wanted: the application on the real server.
        made: the application in use; the same if the real server answered at the start.
        switch: called once with ``wanted`` when its server is back; it ends the worker of
            the embedded queue.
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
        """Whether the embedded server is in use, or keeps messages of an earlier outage."""
        if self._made is not self._wanted:
            return True

        folder = fallback_folder(self._wanted.environ)
        return (
            not self._wanted.is_embedded and folder.is_dir() and any(folder.iterdir())
        )

    @property
    def handed_over(self) -> int:
        """Number of messages that were handed over to the real server."""
        return self._relay.done.messages if self._relay is not None else 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 15.0) -> None:
        """End within about ``timeout`` seconds; the next start hands over the rest."""
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

            self._hand_over()
            if self._made is not self._wanted:
                self._made.pipeline.close()
        except StreamsError:
            logger.exception(
                "messages of the embedded server cannot be handed over now;"
                " the next start tries again"
            )

    def _hand_over(self) -> None:
        target = self._wanted.pipeline.settings
        source = fallback_url(target, self._wanted.environ)
        self._relay = Relay(source, target, self._wanted.settings)

        while not self._end.is_set():
            try:
                asyncio.run(self._relay.run())
                return
            except BrokerError as error:
                facts = {"error": str(error)}
                logger.warning("the relay waits for the server", extra=facts)
                self._end.wait(_EVERY)

    def _is_back(self) -> bool:
        try:
            self._wanted.pipeline.status().streams()
        except StreamsError:
            return False

        return True
