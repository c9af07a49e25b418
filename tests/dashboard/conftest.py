"""The pages are the same on every server; that what they ask is, the other suites show. So one server will do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator
from starlette.responses import Response

from streams.dashboard import api
from streams.dashboard.answers import components
from streams.dashboard.operations import Operation
from streams.dashboard.told import told_of
from tests.servers import BINARIES, Server, server_label


@pytest.fixture(scope="session", params=BINARIES[:1], ids=server_label)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The first of the servers."""
    running = Server(request.param).start()
    yield running
    running.close()


@pytest.fixture(params=BINARIES[:1], ids=server_label)
def binary(request: pytest.FixtureRequest) -> str:
    """The binary of the first."""
    return request.param


@pytest.fixture(autouse=True)
def answers_as_told(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every answer of the API that a test sees is one that its document describes, with nothing more inside."""
    wrong: list[str] = []
    respond = api.answered

    def looked_at(operation: Operation, status: int, body: bytes) -> Response:
        fault = next(
            closed(told_of(operation).answer).iter_errors(orjson.loads(body)), None
        )
        if fault is not None:
            wrong.append(
                f"{operation.name}: {'/'.join(map(str, fault.absolute_path))}: {fault.message}"
            )
        seen.add(operation.name)
        return respond(operation, status, body)

    monkeypatch.setattr(api, "answered", looked_at)
    yield
    assert not wrong


seen: set[str] = set()
"""The operations that were answered so far."""


def closed(schema: Mapping[str, Any]) -> Draft202012Validator:
    """A validator that takes no more properties than the document names."""
    return Draft202012Validator(
        _closed({**schema, "components": {"schemas": components}})
    )


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {name: _closed(each) for name, each in schema.items()}
    if (
        schema.get("type") == "object"
        and isinstance(schema.get("properties"), Mapping)
        and "allOf" not in schema
    ):
        made.setdefault("additionalProperties", False)
    return made
