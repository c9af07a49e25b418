"""A stage: consumers of one stream that a test moves step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from streams import Limit
from streams.admin.erasure import Erasure
from tests.composition import clock, workers
from tests.composition.declared import STREAM, Declared, Group
from tests.composition.run import Run

SLOTS = (Limit("tenant", name="slots", concurrency=1),)

Stage = Callable[..., Any]


@pytest.fixture
def stage(server, namespace, monkeypatch: pytest.MonkeyPatch) -> Stage:
    clock.install(monkeypatch)
    workers.install(monkeypatch)

    @asynccontextmanager
    async def opened(
        *, levels: tuple[int, ...] = (0,), **options: Any
    ) -> AsyncIterator[Run]:
        run = Run(0, server.url, namespace)
        group = replace(Group(concurrency=8, max_retries=2, lease=30.0), **options)
        run.declared, run.levels = Declared(levels, {"a": group}), levels
        async with run:
            yield run
            assert run.books.wrong == []

    return opened


async def accept(run: Run, name: str, *do: str, **attributes: Any) -> None:
    await run.accept(do, {"id": name, "tenant": "t1", **attributes})


async def left(run: Run, kind: str) -> list[str]:
    """The keys of a kind that are there."""
    return [
        name.decode()
        for name in await run.ops.broker.control.call(
            "KEYS", f"{run.namespace}:*:a:{kind}*"
        )
    ]


def ordered(run: Run, order_by: str | None) -> Declared:
    """The same declaration with another order."""
    group = replace(run.declared.groups["a"], order_by=order_by)
    return replace(
        run.declared,
        groups={"a": group if order_by else replace(group, on_dead="continue")},
    )


async def erase(run: Run, tenant: str) -> None:
    run.books.erased |= {
        ("a", name)
        for name, fact in run.books.facts.items()
        if fact.attributes["tenant"] == tenant
    }
    await Erasure(run.ops.broker, STREAM, by="run").erase("tenant", tenant)
