"""The HTTP API below ``/api/v1``, for programs in any language."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import orjson
from jsonschema import Draft202012Validator, FormatChecker
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streams.admin.queries import shown
from streams.common.log_facts import logger_of
from streams.dashboard import mending, tasks  # noqa: F401 - their operations
from streams.dashboard.board import Board
from streams.dashboard.calls import operations_on
from streams.dashboard.direct import is_direct
from streams.dashboard.guard import NEEDS_ACCOUNTS
from streams.dashboard.openapi import document
from streams.dashboard.operations import KEY, Operation, Schema
from streams.dashboard.problems import problem_of
from streams.dashboard.refusals import refusal
from streams.dashboard.roles import Role
from streams.dashboard.tokens import Token, Tokens
from streams.errors import (
    BrokerError,
    ConfigurationError,
    EventError,
    GroupDropped,
    NotFound,
    NotWaiting,
    OutOfMemory,
    PartlyPublished,
    PublishUnknown,
    StreamFull,
    StreamsError,
)
from streams.events.attributes import is_time
from streams.events.receipt import BatchOutcome
from streams.pipeline import Pipeline

logger = logger_of("dashboard")
_LARGEST = 4 * 1024 * 1024
_PARTITION = re.compile(r"[0-9]{1,3}", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,15}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_LOCAL = Token("somebody on this machine", Role.ADMIN, publishes=True)


class Api:
    """Serves the API.

    Args:
        pipeline: open while it is served.
        tokens: of the programs that may use it.
        is_local: there are no accounts, so programs on this machine may do everything
            without a token, and no others.
        read_only: nothing may be changed or published.
        boards: the parts of applications.

    Attributes:
        app: the ASGI application.
        operations: every operation, in the order of the document.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        tokens: Tokens,
        *,
        is_local: bool,
        read_only: bool,
        boards: Iterable[Board] = (),
    ) -> None:
        self._tokens = tokens
        self._is_local = is_local
        self._read_only = read_only
        self.operations = list(operations_on(pipeline))
        self._tags: dict[str, str] = {}

        for board in boards:
            self.operations += board.operations
            self._tags |= board.tags

        by_path: dict[str, dict[str, Operation]] = {}

        for operation in self.operations:
            by_path.setdefault(operation.path, {})[operation.method] = operation

        routes = [
            Route(
                path.replace("{id}", "{id:path}"),
                partial(self._answer, found),
                methods=list(found),
            )
            for path, found in by_path.items()
        ]

        # An id takes any path, so the routes that go on after one have to come first.
        routes.sort(key=lambda route: route.path.endswith("{id:path}"))
        self.app = Starlette(
            routes=[Route("/openapi.json", self._document), *routes],
            exception_handlers={HTTPException: problem, Exception: _broken},
        )

        # A path without a name is none; its answer is a problem, too.
        self.app.router.redirect_slashes = False

    async def _answer(
        self, operations: Mapping[str, Operation], request: Request
    ) -> Response:
        method = request.method.replace("HEAD", "GET")
        operation = operations[method]
        request.scope["token"] = self._allowed(request, operation)
        if operation.publishes and "idempotency-key" in request.headers:
            _check(KEY, request.headers["idempotency-key"], 400)

        request.scope["partition"] = _partition(request, operation)
        given = await _read(request, operation)

        try:
            status, found = await operation.act(request, given)
        except StreamsError as error:
            raise _failure(error) from error

        return answered(operation, status, orjson.dumps(found, default=str))

    def check_token(self, request: Request) -> Token:
        """The token that a request shows.

        Raises:
            HTTPException: 401, it shows none; 403, it needs none here, but does not
                come from here; 429, it comes too often.
        """
        if self._is_local:
            # The guard says the same; but this application can be mounted without it.
            if not is_direct(request.scope):
                raise HTTPException(403, NEEDS_ACCOUNTS)

            return _LOCAL

        token = self._tokens.find(request.headers.get("authorization", ""))
        if token is None:
            detail = "give a token: Authorization: Bearer st_..."
            raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})

        wait = self._tokens.wait(token)
        if wait > 0:
            seconds = str(max(1, math.ceil(wait)))
            raise HTTPException(429, "too many requests", {"Retry-After": seconds})

        return token

    def _allowed(self, request: Request, operation: Operation) -> Token:
        token = self.check_token(request)
        _check_scope(token, request, operation)
        if operation.method != "GET" and self._read_only:
            raise HTTPException(403, "nothing may be changed here")

        if operation.publishes:
            if not token.publishes:
                raise HTTPException(403, "this token may not publish")
        elif token.role < operation.role:
            role = operation.role.name.lower()
            raise HTTPException(403, f"this needs the role {role}")

        return token

    async def _document(self, request: Request) -> Response:
        self.check_token(request)
        root = request.scope.get("root_path", "").removesuffix("/api/v1")

        return Response(self.document(root), media_type="application/json")

    def document(self, root: str = "") -> bytes:
        """The OpenAPI document; ``root`` is the path that the dashboard is mounted under."""
        return orjson.dumps(
            document(
                self.operations,
                root,
                needs_token=not self._is_local,
                tags=self._tags,
            )
        )


def _check_scope(token: Token, request: Request, operation: Operation) -> None:
    """Refuse a stream that the token is not for."""
    stream = operation.stream or request.path_params.get("stream", "")
    if operation.name == "search":
        stream = request.query_params.get("stream", "")

    if not token.reaches(stream):
        what = (
            f"the stream {shown(stream)!r}" if stream else "what is about all streams"
        )
        streams = ", ".join(token.streams)
        raise HTTPException(403, f"this token is not for {what}: it is for {streams}")


def answered(_: Operation, status: int, body: bytes) -> Response:
    """The answer of an operation."""
    return Response(body, status, media_type="application/json")


def _partition(request: Request, operation: Operation) -> int | None:
    """The partition that is named in the query, whatever the method."""
    found = request.query_params.getlist("partition")
    if not found or not operation.takes_partition:
        return None

    if len(found) > 1 or not _PARTITION.fullmatch(found[0]):
        raise HTTPException(400, "partition: a number from 0 to 999")

    return int(found[0])


def _parameters(request: Request, operation: Operation) -> dict[str, Any]:
    """The query, checked, whatever the method.

    A ``dry_run`` in the query of a POST counts nowhere, and must not look as if it did.
    """
    schemas, given = operation.query, dict[str, Any]()

    for name, text in request.query_params.multi_items():
        if name == "partition" and operation.takes_partition:
            continue

        if name not in schemas:
            known = ", ".join(sorted(schemas)) or "none"
            is_field = name in (operation.body or {}).get("properties", {})
            hint = f"; {name} is a field of the body" if is_field else ""
            raise HTTPException(
                400, f"unknown parameter {shown(name[:60])!r}: known are {known}{hint}"
            )

        if name in given:
            raise HTTPException(400, f"the parameter {name!r} is there twice")

        given[name] = _value(text, schemas[name].get("type"))

    needs = list(operation.needs)
    _check({"type": "object", "properties": schemas, "required": needs}, given, 400)
    defaults = {
        name: schema["default"]
        for name, schema in schemas.items()
        if "default" in schema
    }

    return defaults | given


async def _read(request: Request, operation: Operation) -> dict[str, Any]:
    """The query and the body, checked."""
    given = _parameters(request, operation)
    if operation.body is None:
        return given

    kind, _, _ = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "application/json":
        raise HTTPException(415, "the body is application/json")

    sent = bytearray()

    async for part in request.stream():
        sent += part
        if len(sent) > _LARGEST:
            raise HTTPException(413, f"the body has at most {_LARGEST} bytes")

    try:
        body = orjson.loads(sent)
    except orjson.JSONDecodeError:
        raise HTTPException(400, "the body is no JSON") from None

    _check(operation.body, body, 422)

    return given | dict(_whole(operation.body, body))


def _whole(schema: Schema, value: Any) -> Any:
    """A value with integers where they are asked for: 5.0 is one, for JSON Schema."""
    if schema.get("type") == "integer":
        return int(value)

    if isinstance(value, dict) and "properties" in schema:
        schemas = schema["properties"]
        return {name: _whole(schemas.get(name, {}), value[name]) for name in value}

    if isinstance(value, list) and "items" in schema:
        return [_whole(schema["items"], each) for each in value]

    return value


_FORMATS = FormatChecker(formats=())


@_FORMATS.checks("date-time")
def _is_time(given: object) -> bool:
    """Whether a text is a time of RFC 3339; of anything else the type is wrong already."""
    return not isinstance(given, str) or is_time(given)


def _check(schema: Schema, given: Any, status: int) -> None:
    validator = Draft202012Validator(schema, format_checker=_FORMATS)
    errors = list(validator.iter_errors(given))
    if errors:
        # A name that is spelled wrongly is why others are missing, so it goes first.
        error = min(errors, key=lambda each: each.validator != "additionalProperties")
        raise HTTPException(status, refusal(error))


def _value(text: str, kind: str | None) -> Any:
    """A text of the query as the kind that its schema asks for, if it can be one."""
    if kind == "integer" and _INTEGER.fullmatch(text):
        return int(text)

    if kind == "number" and _NUMBER.fullmatch(text):
        return float(text)

    if kind == "boolean" and text in ("true", "false"):
        return text == "true"

    return text


class Failed(HTTPException):
    """The answer to a call that failed; ``code`` is a word for programs."""

    def __init__(
        self, status: int, detail: str, code: str, retry_after: int = 0
    ) -> None:
        headers = {"Retry-After": str(retry_after)} if retry_after else None
        super().__init__(status, detail, headers)
        self.code = code


_FAILURES: tuple[tuple[type[StreamsError], int, str, int], ...] = (
    (GroupDropped, 409, "", 0),
    (NotFound, 404, "there is none", 0),
    (PartlyPublished, 503, "some events are stored, others surely not", 5),
    (
        PublishUnknown,
        503,
        "the answer was lost: it may be stored; repeat it with an idempotency key",
        0,
    ),
    (
        StreamFull,
        503,
        "the stream is full: it holds as many events as it may; slow down, "
        "or raise max_len",
        5,
    ),
    (
        OutOfMemory,
        503,
        "the server has no memory left (maxmemory), so nothing was stored",
        5,
    ),
    (EventError, 422, "", 0),
    (ConfigurationError, 422, "", 0),
    (BrokerError, 503, "the server does not answer", 2),
)
"""Status, detail ('' for that of the error) and Retry-After, by the first class that fits."""
_WORD = re.compile("(?<=[a-z])(?=[A-Z])")


def _failure(error: StreamsError) -> Failed:
    code, own = _WORD.sub("-", type(error).__name__).lower(), str(error)
    if isinstance(error, NotWaiting):
        return Failed(409, f"it is {error.state}", code)

    if isinstance(error, NotFound) and own.startswith("no such ") and len(own) < 30:
        return Failed(404, own, code)

    for kind, status, detail, retry_after in _FAILURES:
        if isinstance(error, kind):
            return Failed(status, detail or own, code, retry_after)

    return Failed(400, "the request is refused", code)


async def problem(_: Request, error: Exception) -> Response:
    """The answer to a request that is refused or that failed, as RFC 9457 has it."""
    if not isinstance(error, HTTPException):
        return problem_of(500, "")

    more: dict[str, Any] = {}
    if isinstance(error, Failed):
        more["code"] = error.code

    outcome = getattr(error.__cause__, "outcome", None)
    if isinstance(outcome, BatchOutcome):
        more["stored"] = [
            {"event": item, **receipt._asdict()}
            for item, receipt in sorted(outcome.receipts.items())
        ]

        more |= {"not_stored": outcome.not_stored, "unknown": outcome.unknown}

    return problem_of(error.status_code, error.detail, error.headers, more)


async def _broken(request: Request, error: Exception) -> Response:
    logger.error("the API failed", extra={"error": type(error).__name__})
    return await problem(request, error)
