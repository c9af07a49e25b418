"""What the operations of the API do."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from streams.admin.actions import ACTIONS, Target
from streams.admin.dead_letter import Filter
from streams.admin.dead_letters import DeadLetters, check_reason
from streams.admin.overview import grouped_views
from streams.admin.partitioned import in_part
from streams.admin.pauses import Pause
from streams.admin.queries import Queries, shown, shown_facts, shown_letter, shown_meta
from streams.admin.status import EntryState
from streams.broker.admin.listing import Listing
from streams.dashboard.operations import CURSOR, FILTERS, LIMIT, NAME, Operation, Schema
from streams.dashboard.roles import Role
from streams.dashboard.schemas import EVENT, HOLD, WHICH
from streams.dashboard.tokens import Token
from streams.doctor.shared import SharedDoctor
from streams.errors import ConfigurationError, NotFound
from streams.events.event import Event
from streams.pipeline import Pipeline

_MOST_EVENTS = 1000


class Tasks:
    """Does what programs ask for.

    Args:
        pipeline: open while it is used.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._queries = Queries(pipeline)
        self._doctor = SharedDoctor(pipeline)

    def operations(self) -> list[Operation]:
        """Everything that the API can do."""
        operator, admin = Role.OPERATOR, Role.ADMIN
        group = "/streams/{stream}/groups/{group}"
        events = {
            "type": "array",
            "items": EVENT,
            "minItems": 1,
            "maxItems": _MOST_EVENTS,
        }
        batch = {
            "type": "object",
            "properties": {"events": events},
            "required": ["events"],
            "additionalProperties": False,
        }
        page = {"after": CURSOR, "limit": LIMIT}
        letters = {**FILTERS, **page}
        cancel = {
            "type": "object",
            "properties": {"group": NAME},
            "additionalProperties": False,
        }
        before = {"before": CURSOR, "limit": LIMIT}
        nothing: Schema = {"type": "object", "additionalProperties": False}
        return [
            Operation(
                "GET",
                "/streams",
                "listStreams",
                "Every stream with its groups.",
                self.streams,
            ),
            Operation(
                "GET", "/streams/{stream}", "getStream", "One stream.", self.stream
            ),
            Operation(
                "POST",
                "/streams/{stream}/events",
                "publish",
                "Publish an event; stored when this answers.",
                self.publish,
                publishes=True,
                body=EVENT,
                status=201,
            ),
            Operation(
                "POST",
                "/streams/{stream}/batches",
                "publishMany",
                "Publish up to 1,000 events.",
                self.publish_many,
                publishes=True,
                body=batch,
                status=201,
            ),
            Operation(
                "GET",
                "/streams/{stream}/events/{id}",
                "getEvent",
                "Where an event stands.",
                self.event,
            ),
            Operation(
                "POST",
                "/streams/{stream}/events/{id}/cancel",
                "cancelEvent",
                "Take out what waits for its time.",
                self.cancel,
                operator,
                body=cancel,
            ),
            Operation(
                "POST",
                "/streams/{stream}/events/{id}/reveal",
                "revealEvent",
                "What an event says; written down.",
                self.reveal,
                admin,
                body=nothing,
            ),
            Operation(
                "POST",
                "/streams/{stream}/pause",
                "pause",
                "Hold back.",
                self.pause,
                operator,
                body=HOLD,
            ),
            Operation(
                "POST",
                "/streams/{stream}/resume",
                "resume",
                "Let go on.",
                self.resume,
                operator,
                body=HOLD,
            ),
            Operation(
                "GET",
                f"{group}/dead",
                "listDeadLetters",
                "Dead letters.",
                self.dead,
                query=letters,
            ),
            Operation(
                "POST",
                f"{group}/dead/replay",
                "replayDeadLetters",
                "Put dead letters back.",
                self.replay,
                operator,
                body=WHICH,
            ),
            Operation(
                "POST",
                f"{group}/dead/discard",
                "discardDeadLetters",
                "Delete dead letters.",
                self.discard,
                operator,
                body=WHICH,
            ),
            Operation(
                "GET",
                "/streams/{stream}/audit",
                "listAudit",
                "What was done.",
                self.audit,
                query=before,
            ),
            Operation(
                "GET",
                f"{group}/limits",
                "listLimits",
                "Limits, declared and set.",
                self.limits,
            ),
            Operation(
                "GET",
                f"{group}/held",
                "listHeldKeys",
                "Keys that wait for an operator.",
                self.held,
            ),
            Operation(
                "GET",
                "/doctor",
                "examine",
                "What is wrong, and what to do.",
                self.doctor,
            ),
            Operation(
                "GET",
                "/workers",
                "listWorkers",
                "The workers, with what they do.",
                self.workers,
            ),
        ]

    async def streams(self, _: Request, __: Mapping[str, Any]) -> tuple[int, Any]:
        """Every stream."""
        views = await self._queries.overview()
        totals = [asdict(view) for view in grouped_views(views) if view.row.partitions]
        return 200, {
            "streams": [asdict(view) for view in views],
            "totals": totals,
            "away": self._away(),
        }

    async def stream(self, request: Request, _: Mapping[str, Any]) -> tuple[int, Any]:
        """One stream."""
        return 200, asdict(
            await self._queries.stream(stream_of(request), partition_of(request))
        )

    async def publish(
        self, request: Request, given: Mapping[str, Any]
    ) -> tuple[int, Any]:
        """One event."""
        attributes = dict(given)
        if (
            key := request.headers.get("idempotency-key", "")
        ) and "dedup_id" not in attributes:
            attributes["dedup_id"] = key
        receipt = await self._pipeline.publish(stream_of(request), _event(attributes))
        return 200 if receipt.duplicate else 201, receipt._asdict()

    async def publish_many(
        self, request: Request, given: Mapping[str, Any]
    ) -> tuple[int, Any]:
        """Many events; a batch with an idempotency key can be repeated as a whole."""
        key, events = request.headers.get("idempotency-key", ""), []
        for number, each in enumerate(given["events"]):
            attributes = dict(each)
            if key and "dedup_id" not in attributes:
                attributes["dedup_id"] = f"{key}/{number}"
            try:
                events.append(_event(attributes))
            except ConfigurationError as error:
                raise ConfigurationError(f"events/{number}/{error}") from None
        receipts = await self._pipeline.publish_many(stream_of(request), events)
        is_repeated = all(receipt.duplicate for receipt in receipts)
        return 200 if is_repeated else 201, {
            "receipts": [receipt._asdict() for receipt in receipts]
        }

    async def event(self, request: Request, _: Mapping[str, Any]) -> tuple[int, Any]:
        """Where one event stands."""
        return 200, {
            "states": [entry_plain(state) for state in await self._find(request)]
        }

    async def reveal(self, request: Request, _: Mapping[str, Any]) -> tuple[int, Any]:
        """What it says."""
        found = await self._find(request)
        listing = Listing(
            self._pipeline.broker, self._pipeline.broker.keys(found[0].stream)
        )
        await listing.write_audit(
            action="reveal", by=who(request), event=request.path_params["id"]
        )
        return 200, {
            "body": found[0].raw.decode("utf-8", "replace"),
            "meta": found[0].meta,
        }

    async def cancel(
        self, request: Request, given: Mapping[str, Any]
    ) -> tuple[int, Any]:
        """Take it out."""
        event = {**given, "id": ident_of(request)}
        state = await ACTIONS["cancel"].run(target_of(self._pipeline, request), event)
        return 200, {"cancelled": entry_plain(state)}

    async def pause(
        self, request: Request, given: Mapping[str, Any]
    ) -> tuple[int, Any]:
        """Hold back."""
        await self._known(request)
        made = await ACTIONS["pause"].run(target_of(self._pipeline, request), given)
        return 200, {"new": made.new}

    async def resume(
        self, request: Request, given: Mapping[str, Any]
    ) -> tuple[int, Any]:
        """Let go on."""
        await self._known(request)
        outcome = await ACTIONS["resume"].run(target_of(self._pipeline, request), given)
        return 200, {
            "resumed": [_pause_plain(pause) for pause in outcome.resumed],
            "remaining": [_pause_plain(pause) for pause in outcome.remaining],
        }

    async def dead(self, request: Request, given: Mapping[str, Any]) -> tuple[int, Any]:
        """A page of dead letters."""
        limit = given["limit"]
        where = Filter(**{name: given[name] for name in FILTERS if name in given})
        letters = (await self._in_group(request)).dead_letters()
        await _check_which(letters, where, 400)
        page, away = await in_part(
            letters.look(where, after=given.get("after", ""), limit=limit)
        )
        rows = [shown_letter(letter) for letter in page.letters]
        return 200, {"letters": rows, "next": page.next or None, "away": away}

    async def replay(
        self, request: Request, given: Mapping[str, Any]
    ) -> tuple[int, Any]:
        """Put dead letters back."""
        target, which = await self._in_group(request), _which(given)
        await _check_which(target.dead_letters(), which, 422)
        wanted = {"limit": 1000, **given, "which": which}
        outcome = await ACTIONS["replay"].run(target, wanted)
        return 200, {"matched": outcome.matched, "moved": len(outcome.moved)}

    async def discard(
        self, request: Request, given: Mapping[str, Any]
    ) -> tuple[int, Any]:
        """Delete dead letters."""
        target, which = await self._in_group(request), _which(given)
        await _check_which(target.dead_letters(), which, 422)
        count = await ACTIONS["discard"].run(target, {**given, "which": which})
        return 200, {"matched": count} if given.get("dry_run") else {"deleted": count}

    async def audit(
        self, request: Request, given: Mapping[str, Any]
    ) -> tuple[int, Any]:
        """What was done."""
        rows = await self._queries.audit(
            await self._known(request),
            given.get("before", ""),
            given["limit"],
            partition_of(request),
        )
        found = [{"id": ident, **shown_facts(facts)} for ident, facts in rows]
        return 200, {
            "rows": found,
            "next": rows[-1][0] if len(rows) >= given["limit"] else None,
        }

    async def limits(self, request: Request, _: Mapping[str, Any]) -> tuple[int, Any]:
        """Limits of a group."""
        found = await self._queries.limits(
            *await self._group(request), partition_of(request)
        )
        return 200, {"limits": [asdict(limit) for limit in found]}

    async def held(self, request: Request, _: Mapping[str, Any]) -> tuple[int, Any]:
        """Keys that wait for an operator."""
        found = await self._queries.held(
            *await self._group(request), partition_of(request)
        )
        return 200, {"keys": [asdict(row) | {"key": shown(row.key)} for row in found]}

    async def doctor(self, _: Request, __: Mapping[str, Any]) -> tuple[int, Any]:
        """What is wrong."""
        return 200, {
            "findings": [
                finding.as_plain() for finding in await self._doctor.findings()
            ]
        }

    async def workers(self, _: Request, __: Mapping[str, Any]) -> tuple[int, Any]:
        """Who works."""
        workers = await self._queries.workers()
        return 200, {
            "workers": [asdict(worker) for worker in workers],
            "away": self._away(),
        }

    def _away(self) -> list[dict[str, Any]]:
        """The shards that could not be asked at this look.

        A program has to tell them from streams that are not there.
        """
        return [shard.as_plain() for shard in self._queries.away]

    async def _known(self, request: Request) -> str:
        name = stream_of(request)
        try:
            await self._pipeline.status().existing(name)
        except NotFound:
            raise NotFound("no such stream") from None
        return name

    async def _group(self, request: Request) -> tuple[str, str]:
        name, group = stream_of(request), request.path_params["group"]
        row = await self._pipeline.status().stream(
            name, partition=partition_of(request)
        )
        if group not in [each.group for each in row.groups if each.group]:
            raise NotFound("no such group")
        return name, group

    async def _in_group(self, request: Request) -> Target:
        _, group = await self._group(request)
        return target_of(self._pipeline, request, group)

    async def _find(self, request: Request) -> list[EntryState]:
        found = await self._queries.find(
            stream_of(request), ident_of(request), partition_of(request)
        )
        if not found:
            raise NotFound("no such event")
        return found


def _event(attributes: dict[str, Any]) -> Event[Any]:
    """The event that was sent.

    Raises:
        StreamsError: it cannot be one.
    """
    kind, packed = attributes.pop("type"), attributes.pop("data_base64", None)
    data = attributes.pop("data") if packed is None else base64.b64decode(packed)
    return Event(kind, data, **attributes)


def stream_of(request: Request) -> str:
    """The stream in the path."""
    return str(request.path_params["stream"])


def partition_of(request: Request) -> int | None:
    """The partition that is meant; None: all of them."""
    found: int | None = request.scope.get("partition")
    return found


def ident_of(request: Request) -> str:
    """The id in the path.

    Raises:
        NotFound: it can be none.
    """
    ident = str(request.path_params["id"])
    if not ident.isprintable() or not 0 < len(ident) <= 500:
        raise NotFound("no such id")
    return ident


def who(request: Request) -> str:
    """The name of the token, for the audit record."""
    token: Token = request.scope["token"]
    return f"api: {token.name}"


def target_of(pipeline: Pipeline, request: Request, group: str = "") -> Target:
    """The stream in the path, or a group of it, for the program that asks."""
    return Target(
        pipeline=pipeline,
        stream=stream_of(request),
        group=group,
        by=who(request),
        partition=partition_of(request),
    )


def _pause_plain(pause: Pause) -> dict[str, Any]:
    """A pause as it may be shown."""
    masked = {
        name: shown(getattr(pause, name)) for name in ("scope", "value", "by", "reason")
    }
    return asdict(pause) | masked


async def _check_which(
    letters: DeadLetters, which: Filter | list[str], status: int
) -> None:
    """Refuse a filter whose reason no letter has.

    It is misspelled, and would be answered as if nothing had died.

    Raises:
        HTTPException: with ``status``; it names the reasons that there are.
    """
    if isinstance(which, Filter):
        try:
            await check_reason(letters, which)
        except ConfigurationError as error:
            raise HTTPException(status, shown(str(error))) from None


def _which(given: Mapping[str, Any]) -> Filter | list[str]:
    return list(given["ids"]) if "ids" in given else Filter(**given["filter"])


def entry_plain(state: EntryState) -> dict[str, Any]:
    """Where an event stands, as it may be shown."""
    names = (
        "stream",
        "group",
        "state",
        "level",
        "entry_id",
        "event_id",
        "type",
        "due",
        "consumer",
        "failures",
        "stalls",
    )
    errors = [_error_plain(error) for error in state.errors]
    told = {
        "type": shown(state.type),
        "errors": errors,
        "meta": dict(shown_meta(state.meta)),
    }
    return {name: getattr(state, name) for name in names} | told


def _error_plain(error: Mapping[str, Any]) -> dict[str, Any]:
    """An error of an attempt record as it may be shown: numbers as they are, texts masked.

    Records come from the server, where other programs can write: what is of another
    type than it should be is left out.
    """
    told: dict[str, Any] = {
        name: error[name]
        for name, kind in _ERROR_NUMBERS.items()
        if type(error.get(name)) in kind
    }
    told |= {
        name: shown(error[name])
        for name in _ERROR_TEXTS
        if isinstance(error.get(name), str)
    }
    if isinstance(frames := error.get("traceback"), list):
        told["traceback"] = [shown(frame) for frame in frames]
    return told


_ERROR_NUMBERS: Mapping[str, tuple[type, ...]] = {"at": (float, int), "attempt": (int,)}
_ERROR_TEXTS = ("kind", "type", "message", "where", "consumer")
