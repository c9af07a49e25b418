"""The outcome of an attempt that did not return. Nothing here raises.

It is a retry, a dead letter, a snooze, or the entry is given back.

User code decides here, too: a retry policy, the key of a limit, what an exception says
of itself, an event that its handler has changed. None of it may cost a slot or an
event.
"""

from __future__ import annotations

import asyncio
import logging

from streams.broker.entries.delivery import Delivery
from streams.common.exception_text import NOWHERE, Setting, describe_error
from streams.common.log_facts import logger_of
from streams.consuming.execution import Execution, setting_of
from streams.consuming.gate import Gate
from streams.consuming.settler import Settler
from streams.consuming.state import ConsumerState
from streams.consuming.telling import log_death, log_entry
from streams.errors import Skip, Snooze, Throttle
from streams.logs import failure_facts
from streams.policy.limit import key_text
from streams.policy.retry import AttemptRecord, Bury, Decision, Retry, checked_decision

logger = logger_of("consumer")

DEFAULT = Retry()
"""The policy of an attempt whose own policy failed."""


class Failing:
    """LevelTurns failures into outcomes.

    Args:
        state: shared by the parts of the consumer.
        settler: takes the outcomes.
        gate: of the group.
    """

    def __init__(self, state: ConsumerState, settler: Settler, gate: Gate) -> None:
        self._state = state
        self._settler = settler
        self._gate = gate
        self._stats = state.stats
        self._throttling: set[asyncio.Task[None]] = set()

    def failed(self, run: Execution, error: BaseException) -> None:
        """Decide on an attempt that ended with ``error``."""
        try:
            self._decide(run, error)
        except BaseException as defect:  # noqa: BLE001 - the entry needs an outcome
            self.defect(run.delivery, defect)

    def timed_out(self, run: Execution, error: TimeoutError) -> None:
        """Decide on an attempt that did not even end when it was cancelled for its timeout."""
        try:
            self._fail(run, error)
        except BaseException as defect:  # noqa: BLE001 - as in ``failed``
            self.defect(run.delivery, defect)

    def defect(self, delivery: Delivery, error: BaseException) -> None:
        """Count a defect between an attempt's start and its outcome as a failure.

        The default policy counts it, so an event that always ends here becomes a dead
        letter.
        """
        logger.error(
            "an attempt could not be brought to its end, so it counts as failed; "
            "it is retried by the default policy",
            exc_info=error,
            extra={
                "where": self._state.where,
                "level_of_stream": delivery.level,
                "entry": delivery.entry_id,
            },
        )
        record = self._record(delivery, error)
        decision = DEFAULT.after_failure(_UnreadableError(), record)
        if isinstance(decision, Bury):
            log_death(
                self._state.id,
                delivery,
                decision.reason,
                delivery.event,
                said_by=logger,
                **failure_facts(error),
            )
            self._settler.bury(delivery, decision.reason, record.to_json())
        else:
            self._settler.postpone(
                delivery, decision.delay, "retried", record.to_json()
            )

    async def close(self) -> None:
        """Wait for what is still being told to the server."""
        await asyncio.gather(*self._throttling, return_exceptions=True)

    def _decide(self, run: Execution, error: BaseException) -> None:
        delivery = run.delivery
        if run.why == "lost":
            self._settler.drop(delivery)
        elif run.why == "shutdown" and isinstance(error, asyncio.CancelledError):
            self._settler.postpone(delivery, 0.0, "released")
        elif isinstance(error, Snooze):
            if isinstance(error, Throttle):
                self._throttle(run, error)
            # With its record: what an older version says that it waits for is over.
            self._settler.postpone(delivery, error.seconds, "snoozed", delivery.record)
        elif isinstance(error, Skip):
            self._stats.skipped += 1
            self._settler.done(delivery)
        else:
            self._fail(run, error)

    def _fail(self, run: Execution, error: BaseException) -> None:
        delivery, event = run.delivery, run.event
        setting = setting_of(run)
        record = self._record(delivery, error, setting)
        decision = self._decision(run, error, record)
        facts = failure_facts(error, setting)
        if isinstance(decision, Bury):
            log_death(
                self._state.id,
                delivery,
                decision.reason,
                event,
                said_by=logger,
                **facts,
            )
            self._settler.bury(delivery, decision.reason, record.to_json())
        else:
            delay = round(decision.delay, 3)
            log_entry(
                self._state,
                logging.WARNING,
                "retry",
                delivery,
                event,
                delay=delay,
                **facts,
            )
            self._settler.postpone(
                delivery, decision.delay, "retried", record.to_json()
            )

    def _decision(
        self, run: Execution, error: BaseException, record: AttemptRecord
    ) -> Decision:
        """Ask the route's policy.

        The default policy decides if that one fails, or decides what cannot be done.
        """
        try:
            meta = run.event.meta
            return checked_decision(
                run.route.retry.after_failure(
                    error,
                    record,
                    max_retries=meta.get("max_retries"),
                    retry_delay=meta.get("retry_delay"),
                )
            )
        except Exception as defect:  # noqa: BLE001 - code of the user's
            log_entry(
                self._state,
                logging.ERROR,
                "the retry policy failed, the default policy decides",
                run.delivery,
                run.event,
                exc_info=defect,
                error=type(defect).__name__,
            )
            return DEFAULT.after_failure(_UnreadableError(), record)

    def _record(
        self, delivery: Delivery, error: BaseException, setting: Setting = NOWHERE
    ) -> AttemptRecord:
        """The attempt record, with this failure counted."""
        record = delivery.history()
        described = describe_error(error, self._state.id.name, setting)
        record.add("failure", described, at=round(self._state.clock.now(), 3))
        return record

    def _throttle(self, run: Execution, error: Throttle) -> None:
        limit = next(
            (limit for limit in run.route.limits if limit.name == error.limit), None
        )
        # As the gate saw it: since then the handler may have changed what the key is
        # made of.
        key = (
            key_text(error.key)
            if error.key is not None
            else run.delivery.limit_keys.get(error.limit)
        )
        if limit is None or key is None:
            why = (
                "its handler has no limit of this name"
                if limit is None
                else "the event has no key under it"
            )
            facts = {"limit": error.limit, "error": why}
            log_entry(
                self._state,
                logging.ERROR,
                "cannot throttle",
                run.delivery,
                run.event,
                **facts,
            )
            return
        task = asyncio.create_task(self._gate.throttle(limit.name, key, error.seconds))
        self._throttling.add(task)
        task.add_done_callback(self._throttling.discard)


class _UnreadableError(Exception):
    """Stands for an error that the default policy need not read.

    Reading the error itself may be what failed.
    """
