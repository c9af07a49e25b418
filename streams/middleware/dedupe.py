"""Dedupe: handles each event id once within a window."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import NamedTuple

from streams.broker import Backoff
from streams.broker.entries.claims import HANDLED, HELD, NO_MEMORY, Claim, Claiming
from streams.broker.server.outages import OUTAGE
from streams.common.arguments import checked_seconds
from streams.common.log_facts import logger_of
from streams.errors import BrokerError, Skip, Snooze
from streams.events.names import member
from streams.middleware.base import Attempt, Middleware, Place
from streams.quantities import Seconds

logger = logger_of("middleware")

_MOST = 500
_PATIENCE = 5.0


class Dedupe(Middleware):
    """Acknowledges events with a handled id, and runs one attempt at an id at a time.

    An attempt claims its event id, marks it as handled if it succeeds, and releases it if
    it fails. If another attempt has the id, the event is snoozed for ``busy`` seconds. A
    claim belongs to one delivery of one entry: a redelivery after a stall takes it over,
    and the stalled attempt can no longer change it. The costs are two round trips per
    event, which concurrent events share, and one key per event id and window.

    Args:
        window: seconds for which a handled event id is remembered.
        busy: seconds after which an event is tried again, if another attempt has its id.

    Raises:
        ConfigurationError: a value is out of range.
    """

    def __init__(self, window: Seconds = 3600.0, *, busy: Seconds = 1.0) -> None:
        remembered = checked_seconds("Dedupe: window", window, 0.001, 31_536_000)
        self.window = float(remembered)
        self.busy = float(checked_seconds("Dedupe: busy", busy, 0.001, 3600))
        self._claims: dict[Place, _Claims] = {}

    def start(self, place: Place) -> None:
        """Get ready for one consumer."""
        self._claims[place] = _Claims(place, self.window)

    async def stop(self, place: Place) -> None:
        """Send the remaining requests and close the connection."""
        await self._claims.pop(place).close()

    async def before(self, attempt: Attempt) -> None:
        """Claim the event id.

        Raises:
            Skip: the id was handled before.
            Snooze: another attempt has the id, or the server has no memory for the claim.
        """
        answer = await self._claims[attempt.place].claim(_claim(attempt))
        if answer == HANDLED:
            raise Skip("handled before")
        if answer == NO_MEMORY:
            raise Snooze(self.busy, "the server has no memory for the claim")
        if answer != HELD:
            raise Snooze(self.busy, "its event id is being handled")

    async def after(self, attempt: Attempt) -> None:
        """Mark the event id as handled; the event is acknowledged after that."""
        place = attempt.place
        if attempt.skipped:
            self.failed(attempt, Skip())
        elif await self._claims[place].done(_claim(attempt)) == NO_MEMORY:
            extra = {"where": f"{place.stream}/{place.group}"}
            logger.warning("no memory to remember a handled event id", extra=extra)

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """Release the event id without waiting: a next attempt can take the claim over."""
        claims = self._claims.get(attempt.place)
        if claims is not None:
            claims.release(_claim(attempt))


def _claim(attempt: Attempt) -> Claim:
    event = attempt.event
    return Claim(event.id, member(event.priority, event.entry_id), attempt.deliveries)


class _Waiting(NamedTuple):
    claim: Claim
    answer: asyncio.Future[int]


class _Claims:
    """The claims of one consumer. Requests during a round trip share the next one."""

    def __init__(self, place: Place, window: float) -> None:
        self._hold = max(1.0, 2 * place.lease)
        keys = place.broker.keys(place.stream)
        self._claiming = Claiming(
            place.broker, keys, place.group, hold=self._hold, window=window
        )
        self._where = f"{place.stream}/{place.group}"
        self._to_claim: deque[_Waiting] = deque()
        self._to_mark: deque[_Waiting] = deque()
        self._to_release: deque[Claim] = deque()
        self._held: dict[Claim, float] = {}
        """Claims of running attempts, with the time of the next extension (monotonic)."""
        self._sender: asyncio.Task[None] | None = None
        self._keeper = asyncio.create_task(self._keep(), name="streams-claims")

    async def claim(self, claim: Claim) -> int:
        """Claim an event id: HELD, HANDLED, TAKEN or NO_MEMORY. Waits out an outage."""
        try:
            answer = await self._ask(self._to_claim, claim)
        except BaseException:
            self.release(claim)  # The request may have been sent.
            raise

        if answer == HELD:
            self._held[claim] = time.monotonic() + self._hold / 3

        return answer

    async def done(self, claim: Claim) -> int:
        """Mark an event id as handled. Waits out an outage."""
        self._held.pop(claim, None)
        return await self._ask(self._to_mark, claim)

    def release(self, claim: Claim) -> None:
        """Release an event id with the next round trip."""
        self._held.pop(claim, None)
        self._to_release.append(claim)
        self._send_soon()

    async def close(self) -> None:
        """Send the waiting requests, for a few seconds at most."""
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper

        if self._sender is not None:
            await asyncio.wait((self._sender,), timeout=_PATIENCE)
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)

        await self._claiming.close()

    async def _ask(self, queue: deque[_Waiting], claim: Claim) -> int:
        waiting = _Waiting(claim, asyncio.get_running_loop().create_future())
        queue.append(waiting)
        self._send_soon()
        return await waiting.answer

    def _send_soon(self) -> None:
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(
                self._send(), name="streams-claims-sender"
            )

    async def _send(self) -> None:
        backoff = Backoff()
        while self._to_claim or self._to_mark or self._to_release:
            claims, marks = _take(self._to_claim), _take(self._to_mark)
            count = min(len(self._to_release), _MOST)
            released = [self._to_release.popleft() for _ in range(count)]
            try:
                claimed, marked = await self._claiming.exchange(
                    [waiting.claim for waiting in claims],
                    [waiting.claim for waiting in marks],
                    released,
                )
            except OUTAGE:
                self._to_claim.extendleft(reversed(claims))
                self._to_mark.extendleft(reversed(marks))
                self._to_release.extendleft(reversed(released))
                await asyncio.sleep(backoff.next())
                continue
            except BrokerError as error:
                claimed = marked = error

            backoff.reset()
            _answer(claims, claimed)
            _answer(marks, marked)

    async def _keep(self) -> None:
        """Extend the claims of long attempts after each third of their validity."""
        while True:
            await asyncio.sleep(self._hold / 12)
            now = time.monotonic()
            late = [claim for claim, at in self._held.items() if at <= now][:_MOST]
            if not late:
                continue

            try:
                await self._claiming.exchange(late)
            except BrokerError as error:
                extra = {"where": self._where, "error": str(error)}
                logger.warning("cannot extend claims", extra=extra)
                continue

            for claim in late:
                if claim in self._held:
                    self._held[claim] = now + self._hold / 3


def _take(queue: deque[_Waiting]) -> list[_Waiting]:
    """The first requests whose caller still waits."""
    taken: list[_Waiting] = []
    while queue and len(taken) < _MOST:
        waiting = queue.popleft()
        if not waiting.answer.done():
            taken.append(waiting)

    return taken


def _answer(asked: list[_Waiting], replies: list[int] | BrokerError) -> None:
    for at, waiting in enumerate(asked):
        if waiting.answer.done():
            continue

        if isinstance(replies, BrokerError):
            waiting.answer.set_exception(type(replies)(str(replies)))
        else:
            waiting.answer.set_result(replies[at])
