"""The verbs of operators, in one table, which the pages, the API and ``streams top`` render.

A verb is run with a target and with what was given for it. How its button reads, what
it says before it is done, and whether only an admin may use it, stands here too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streams.admin.dead_letters import DeadLetters
from streams.admin.letters import Replay
from streams.admin.limits import Limits
from streams.admin.operating import Operating
from streams.admin.ordered_keys import OrderedKeys
from streams.admin.pauses import Pauses, Pausing, Resumption
from streams.admin.status import EntryState
from streams.errors import NotFound

Given = Mapping[str, Any]
"""The parameters of a verb, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A stream or a group of it, and the operator who acts on it.

    Attributes:
        pipeline: open.
        stream: the stream's name.
        group: the group's name; '' for the stream.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    pipeline: Operating
    stream: str
    group: str = ""
    by: str = ""
    partition: int | None = None

    def dead_letters(self) -> DeadLetters:
        """The dead letters of the group."""
        return self.pipeline.dead_letters(
            self.stream, self.group, by=self.by, partition=self.partition
        )

    def ordered_keys(self) -> OrderedKeys:
        """The ordered keys of the group."""
        return self.pipeline.ordered_keys(
            self.stream, self.group, by=self.by, partition=self.partition
        )

    def limits(self) -> Limits:
        """The limits of the group."""
        return self.pipeline.limits(
            self.stream, self.group, by=self.by, partition=self.partition
        )

    def pauses(self) -> Pauses:
        """The pauses of the stream."""
        return self.pipeline.pauses(self.stream, by=self.by, partition=self.partition)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One verb.

    Attributes:
        verb: on the button.
        says: the effect, in a sentence.
        done: the words about the target afterwards; '' where a page of its own says it.
        run: does it.
        is_final: it cannot be taken back.
        for_admins: an operator may not do it.
    """

    verb: str
    says: str
    run: Callable[[Target, Given], Awaitable[Any]]
    done: str = ""
    is_final: bool = False
    for_admins: bool = False


async def _cancel(on: Target, given: Given) -> EntryState:
    return await on.pipeline.cancel(
        on.stream,
        given["id"],
        given.get("group", ""),
        by=on.by,
        partition=on.partition,
    )


async def _run_now(on: Target, given: Given) -> EntryState:
    return await on.pipeline.run_now(
        on.stream,
        given["id"],
        given.get("group", ""),
        by=on.by,
        partition=on.partition,
    )


async def _pause(on: Target, given: Given) -> Pausing:
    return await on.pauses().pause(reason=given.get("reason", ""), **_scope(given))


async def _resume(on: Target, given: Given) -> Resumption:
    return await on.pauses().resume(**_scope(given))


def _scope(given: Given) -> dict[str, Any]:
    """The scope of a pause; an attribute and its value are given as two parameters."""
    scope = {"group": given.get("group", ""), "level": given.get("level")}
    if "attribute" in given:
        scope[given["attribute"]] = given["value"]

    return scope


async def _release(on: Target, given: Given) -> str:
    return await on.ordered_keys().release(given["key"])


async def _skip(on: Target, given: Given) -> None:
    await on.ordered_keys().skip(given["key"])


async def _limit(on: Target, given: Given) -> str:
    """Set a limit, throttle a key of it, or take back what was set.

    Returns what was set before.

    Raises:
        NotFound: there is no such limit.
    """
    limits, name = on.limits(), given["limit"]
    if name not in [limit.name for limit in await limits.list()]:
        raise NotFound("no such limit")

    key = given.get("key")
    if "throttle" in given:
        await limits.throttle(name, key, given["throttle"])
        return ""

    if "rate" in given:
        return await limits.set(name, given["rate"], given.get("burst"), key=key)

    return await limits.reset(name, key=key)


async def _replay(on: Target, given: Given) -> Replay:
    return await on.dead_letters().replay(
        given["which"],
        dry_run=given.get("dry_run", False),
        rate=given.get("rate"),
        limit=given.get("limit"),
    )


async def _discard(on: Target, given: Given) -> int:
    return await on.dead_letters().discard(
        given["which"], dry_run=given.get("dry_run", False)
    )


async def _edit(on: Target, given: Given) -> str:
    return await on.dead_letters().replay_edited(given["letter"], given["data"])


ACTIONS: Mapping[str, Action] = {
    "cancel": Action(
        verb="Cancel",
        says="It will not run (again), and nothing of it is kept.",
        done="was cancelled",
        run=_cancel,
        is_final=True,
    ),
    "run-now": Action(
        verb="Run now",
        says="It runs as soon as a worker is free; limits and pauses hold.",
        done="is due now",
        run=_run_now,
    ),
    "pause": Action(
        verb="Pause",
        says="Nothing of it is started until somebody resumes it; what runs goes on.",
        done="is paused",
        run=_pause,
    ),
    "resume": Action(
        verb="Resume",
        says="What was held back is started again.",
        done="goes on",
        run=_resume,
    ),
    "release": Action(
        verb="Release",
        says="Its event that died is put back and runs first; "
        "then the others, in order.",
        done="goes on",
        run=_release,
    ),
    "skip": Action(
        verb="Skip",
        says="The event that died stays a dead letter; the others run, in order.",
        done="goes on",
        run=_skip,
    ),
    "limit": Action(
        verb="Set",
        says="It holds for all workers at once.",
        done="is set",
        run=_limit,
    ),
    "replay": Action(
        verb="Replay",
        says="Each is put back on its level with its event id, begins anew, "
        "and runs in this group only.",
        run=_replay,
    ),
    "discard": Action(
        verb="Discard",
        says="They are deleted for good; export them first if in doubt.",
        run=_discard,
        is_final=True,
    ),
    "edit": Action(
        verb="Replay",
        says="It is put back with the body that you wrote; "
        "the one that it had is kept nowhere.",
        run=_edit,
        for_admins=True,
    ),
}
"""By the name in the path of a page."""
