"""Dedupe: an event id is handled once within a window, however often it was published or delivered."""

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
    """Acknowledges events whose id was handled before, and never lets two attempts at one id run at once.

    An attempt claims its event id, marks it as handled when it succeeded, and frees it when it failed. An event whose
    id another attempt has is snoozed for ``busy`` seconds. A claim belongs to one delivery of one entry: a redelivery
    after a stall takes it over, and what the stalled attempt does later changes nothing. Costs two round trips per
    event, shared by all that are under way, and one key per event id and window.

    Args:
        window: seconds for which a handled event id is remembered.
        busy: seconds after which an event whose id is being handled is looked at again.

    Raises:
        ConfigurationError: a value is out of range.
    """

    def __init__(self, window: Seconds = 3600.0, *, busy: Seconds = 1.0) -> None:
        self.window = float(
            checked_seconds("Dedupe: window", window, 0.001, 31_536_000)
        )
        self.busy = float(checked_seconds("Dedupe: busy", busy, 0.001, 3600))
        self._claims: dict[Place, _Claims] = {}

    def start(self, place: Place) -> None:
        """Get ready for one consumer."""
        self._claims[place] = _Claims(place, self.window)

    async def stop(self, place: Place) -> None:
        """Write what is left and close the connection."""
        await self._claims.pop(place).close()

    async def before(self, attempt: Attempt) -> None:
        """Claim the event id.

        Raises:
            Skip: it was handled before.
            Snooze: another attempt has it, or the server has no memory for the claim.
        """
        answer = await self._claims[attempt.place].claim(_claim(attempt))
        if answer == HANDLED:
            raise Skip("handled before")
        if answer != HELD:
            why = (
                "the server has no memory for the claim"
                if answer == NO_MEMORY
                else "its event id is being handled"
            )
            raise Snooze(self.busy, why)

    async def after(self, attempt: Attempt) -> None:
        """Mark the event id as handled; the event is acknowledged after that."""
        if attempt.skipped:
            self.failed(attempt, Skip())
        elif await self._claims[attempt.place].done(_claim(attempt)) == NO_MEMORY:
            logger.warning(
                "no memory to remember a handled event id",
                extra={"where": f"{attempt.place.stream}/{attempt.place.group}"},
            )

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """Free the event id. Not waited for: the next attempt at this entry takes the claim over in any case."""
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
    """The claims of one consumer: what is asked while a trip is under way shares the next one."""

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
        """Claims of attempts in progress, and when each must be extended (monotonic)."""
        self._sender: asyncio.Task[None] | None = None
        self._keeper = asyncio.create_task(self._keep(), name="streams-claims")

    async def claim(self, claim: Claim) -> int:
        """Ask for an event id; HELD, HANDLED, TAKEN or NO_MEMORY. Waits while the server is away."""
        try:
            answer = await self._ask(self._to_claim, claim)
        except BaseException:
            self.release(claim)  # It may have been sent.
            raise
        if answer == HELD:
            self._held[claim] = time.monotonic() + self._hold / 3
        return answer

    async def done(self, claim: Claim) -> int:
        """Mark an event id as handled. Waits while the server is away."""
        self._held.pop(claim, None)
        return await self._ask(self._to_mark, claim)

    def release(self, claim: Claim) -> None:
        """Free an event id, soon."""
        self._held.pop(claim, None)
        self._to_release.append(claim)
        self._send_soon()

    async def close(self) -> None:
        """Write what waits, for a few seconds at most."""
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
            released = [
                self._to_release.popleft()
                for _ in range(min(len(self._to_release), _MOST))
            ]
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
        """Extend the claims of long attempts, every third of the time for which they hold."""
        while True:
            await asyncio.sleep(self._hold / 12)
            now = time.monotonic()
            late = [claim for claim, at in self._held.items() if at <= now][:_MOST]
            if not late:
                continue
            try:
                await self._claiming.exchange(late)
            except BrokerError as error:
                logger.warning(
                    "cannot extend claims",
                    extra={"where": self._where, "error": str(error)},
                )
                continue
            for claim in late:
                if claim in self._held:
                    self._held[claim] = now + self._hold / 3


def _take(queue: deque[_Waiting]) -> list[_Waiting]:
    """The first that somebody still waits for."""
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
