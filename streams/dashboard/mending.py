"""Operations of the API for operators: events that wait, dead letters, held keys, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request

from streams.admin.actions import ACTIONS
from streams.admin.outcomes import Outcomes
from streams.admin.queries import Queries, shown
from streams.admin.searching import Search
from streams.dashboard.operations import CURSOR, LIMIT, NAME, TEXT, Operation, Schema
from streams.dashboard.reading import group_of
from streams.dashboard.roles import Role
from streams.dashboard.tasks import (
    entry_plain,
    ident_of,
    partition_of,
    stream_of,
    target_of,
)
from streams.pipeline import Pipeline

_LEVEL: Schema = {"type": "integer", "minimum": -1_000_000, "maximum": 1_000_000}


class OperatorTasks:
    """Does what programs of operators ask for.

    Args:
        pipeline: open while it is used.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._queries = Queries(pipeline)

    def operations(self) -> list[Operation]:
        """Everything that there is of it."""
        operator, admin = Role.OPERATOR, Role.ADMIN
        group = "/streams/{stream}/groups/{group}"
        where: Schema = {
            "type": "object",
            "properties": {"group": NAME},
            "additionalProperties": False,
        }
        key: Schema = _one("key", TEXT)
        edited: Schema = {
            "type": "object",
            "properties": {"letter": CURSOR, "data": {}},
            "required": ["letter", "data"],
            "additionalProperties": False,
        }
        rate: Schema = {
            "type": "object",
            "properties": {
                "limit": TEXT,
                "rate": TEXT,
                "key": TEXT,
                "burst": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
                "throttle": {"type": "number", "minimum": 0, "maximum": 86_400},
            },
            "required": ["limit"],
            "dependentRequired": {"burst": ["rate"], "throttle": ["key"]},
            "not": {"required": ["rate", "throttle"]},
            "description": "a rate sets the limit, throttle (seconds, 0 ends it) holds back a key; neither resets it",
            "additionalProperties": False,
        }
        which: Mapping[str, Schema] = {
            "event": TEXT,
            "key": TEXT,
            "tenant": TEXT,
            "level": _LEVEL,
            "group": NAME,
        }
        return [
            Operation(
                "GET",
                "/streams/{stream}/why",
                "explainWaiting",
                "Why an event waits, or those of a key, a tenant or a level; give one.",
                self.why,
                query=which,
            ),
            Operation(
                "POST",
                "/streams/{stream}/events/{id}/run-now",
                "runEventNow",
                "Let what waits for its time run now.",
                self.run_now,
                operator,
                body=where,
            ),
            Operation(
                "POST",
                f"{group}/dead/edit",
                "editDeadLetter",
                "Put a dead letter back with another body.",
                self.edit,
                admin,
                body=edited,
            ),
            Operation(
                "GET",
                f"{group}/replays",
                "listReplays",
                "What became of replays.",
                self.replays,
                query={"limit": LIMIT},
            ),
            Operation(
                "POST",
                f"{group}/held/release",
                "releaseKey",
                "Let a key go on, its dead event first.",
                self.release,
                operator,
                body=key,
            ),
            Operation(
                "POST",
                f"{group}/held/skip",
                "skipKey",
                "Let a key go on, without its dead event.",
                self.skip,
                operator,
                body=key,
            ),
            Operation(
                "POST",
                f"{group}/limits",
                "setLimit",
                "Set a limit, or without a rate take back what was set.",
                self.limit,
                operator,
                body=rate,
            ),
            Operation(
                "GET",
                f"{group}/workers/{{id}}",
                "getWorker",
                "What a worker has in hand.",
                self.worker,
            ),
            Operation(
                "GET",
                "/search",
                "search",
                "Events by id, key, tenant, instance, subject or source.",
                self.search,
                query={"q": TEXT, "stream": NAME},
                needs=("q",),
            ),
        ]

    async def why(self, request: Request, given: Mapping[str, Any]) -> tuple[int, Any]:
        """Why events wait."""
        found = await self._pipeline.why(
            stream_of(request), **given, partition=partition_of(request)
        )
        return 200, found.as_plain()

    async def run_now(
        self, request: Request, given: Mapping[str, Any]
    ) -> tuple[int, Any]:
        """Let an event run."""
        event = {**given, "id": ident_of(request)}
        state = await ACTIONS["run-now"].run(target_of(self._pipeline, request), event)
        return 200, {"was": entry_plain(state)}

    async def edit(self, request: Request, given: Mapping[str, Any]) -> tuple[int, Any]:
        """Put a letter back."""
        return 200, {"entry": await self._run("edit", request, given)}

    async def replays(
        self, request: Request, given: Mapping[str, Any]
    ) -> tuple[int, Any]:
        """What became of replays."""
        stream, group = await self._group(request)
        found = await Outcomes(self._pipeline, stream).replays(
            group, given["limit"], partition_of(request)
        )
        return 200, {
            "replays": [
                asdict(row)
                | {"by": shown(row.by), "where": shown(row.where), "now": dict(row.now)}
                for row in found
            ]
        }

    async def release(
        self, request: Request, given: Mapping[str, Any]
    ) -> tuple[int, Any]:
        """Let a key go on."""
        await self._run("release", request, given)
        return 200, {}

    async def skip(self, request: Request, given: Mapping[str, Any]) -> tuple[int, Any]:
        """Let a key go on."""
        await self._run("skip", request, given)
        return 200, {}

    async def _run(self, name: str, request: Request, given: Mapping[str, Any]) -> Any:
        """Run an action on the group in the path."""
        _, group = await self._group(request)
        target = target_of(self._pipeline, request, group)
        return await ACTIONS[name].run(target, given)

    async def limit(
        self, request: Request, given: Mapping[str, Any]
    ) -> tuple[int, Any]:
        """Set a limit."""
        return 200, {"before": await self._run("limit", request, given)}

    async def worker(self, request: Request, _: Mapping[str, Any]) -> tuple[int, Any]:
        """What a worker has in hand."""
        stream, group = await self._group(request)
        name = ident_of(request)
        items = await self._queries.in_hand(stream, group, name)
        known = {
            worker.name: worker
            for worker in await self._queries.workers_of(stream, group)
        }
        rows = [
            {
                "entry": f"{item.listed.level}|{item.listed.place}",
                "event_id": item.event_id,
                "type": shown(item.type),
                "runs": item.runs,
                "silent": item.listed.silent,
                "deliveries": item.listed.deliveries,
            }
            for item in items
        ]
        worker = known.get(name)
        state, silent = (
            (worker.state, round(worker.silent, 1)) if worker else ("unknown", None)
        )
        return 200, {"in_hand": rows, "state": state, "silent": silent}

    async def search(self, _: Request, given: Mapping[str, Any]) -> tuple[int, Any]:
        """Find events."""
        found = await Search(self._pipeline).search(given["q"], given.get("stream", ""))
        matches = [
            asdict(match) | {"type": shown(match.type)} for match in found.matches
        ]
        states = [entry_plain(state) for state in found.states]
        return 200, {
            "states": states,
            "matches": matches,
            "left_out": found.left_out,
            "away": [shard.as_plain() for shard in found.away],
        }

    async def _group(self, request: Request) -> tuple[str, str]:
        stream = stream_of(request)
        return stream, await group_of(
            self._pipeline, stream, str(request.path_params["group"])
        )


def _one(name: str, schema: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {name: schema},
        "required": [name],
        "additionalProperties": False,
    }
