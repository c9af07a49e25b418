"""Replays that take their time.

They run in the dashboard, at a rate, and can be watched and stopped.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field

from streams.admin.dead_letter import Filter
from streams.admin.dead_letters import DeadLetters
from streams.common.log_facts import logger_of
from streams.errors import StreamsError

logger = logger_of("dashboard")
_KEPT = 20


@dataclass(slots=True)
class Job:
    """One replay.

    Attributes:
        id: made up.
        stream, group: whose dead letters.
        by: the operator, for the audit record.
        rate: dead letters per second.
        moved: how many were put back so far.
        state: ``running``, ``done``, ``stopped`` or ``failed``.
    """

    id: str
    stream: str
    group: str
    by: str
    rate: float
    moved: int = 0
    state: str = "running"
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Jobs:
    """The replays that this process runs.

    An event that is not put back when the process ends stays a dead letter.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def of(self, stream: str, group: str) -> list[Job]:
        """Those of a group, the latest first."""
        return [
            job
            for job in reversed(self._jobs.values())
            if (job.stream, job.group) == (stream, group)
        ]

    def start(self, letters: DeadLetters, where: Filter, rate: float, by: str) -> Job:
        """Put back what the filter takes."""
        job = Job(secrets.token_hex(8), letters.stream, letters.group, by, rate)
        job.task = asyncio.create_task(self._run(job, letters, where))
        self._jobs[job.id] = job
        over = [each.id for each in self._jobs.values() if each.state != "running"]

        for ident in over[: max(0, len(self._jobs) - _KEPT)]:
            del self._jobs[ident]

        return job

    def stop(self, ident: str) -> bool:
        """Let a replay end where it is; False if it does not run."""
        job = self._jobs.get(ident)
        if job is None or job.task is None or job.state != "running":
            return False

        job.state = "stopped"
        job.task.cancel()

        return True

    async def close(self) -> None:
        """Stop them all."""
        running = [job for job in self._jobs.values() if self.stop(job.id)]
        await asyncio.gather(
            *(job.task for job in running if job.task is not None),
            return_exceptions=True,
        )

    async def _run(self, job: Job, letters: DeadLetters, where: Filter) -> None:
        try:
            async for moved in letters.replaying(where, rate=job.rate):
                job.moved += len(moved.moved)

            job.state = "done"
        except StreamsError as error:
            job.state = "failed"
            logger.warning(
                "a replay ended early",
                extra={"where": f"{job.stream}/{job.group}", "error": str(error)},
            )
