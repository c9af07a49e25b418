"""Pauses of instances, by operators and by the breaker."""

from __future__ import annotations

from streams.admin.pauses import Pause
from streams.pipeline import Pipeline
from streams.whatsapp.status import STREAM


async def paused_instances(pipeline: Pipeline) -> list[Pause]:
    """The pauses of instances, in every group. One command."""
    pauses = await pipeline.pauses(STREAM).list()

    return [pause for pause in pauses if pause.attribute == "instance"]


async def resume(
    pipeline: Pipeline, instance: str, *, by: str, made_by: str = ""
) -> int:
    """End the pauses of an instance; returns how many.

    Args:
        pipeline: open.
        instance: its id.
        by: the person or program that resumes it, for the audit record.
        made_by: end only the pauses of this person or program; '' for all.
    """
    pauses = pipeline.pauses(STREAM, by=by)

    found = [
        pause
        for pause in await paused_instances(pipeline)
        if pause.value == instance and made_by in ("", pause.by)
    ]

    for pause in found:
        await pauses.resume(group=pause.group, instance=instance)

    return len(found)
