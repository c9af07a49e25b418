"""The API over a pipeline, with a token for each right."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from streams import Pipeline, Settings
from streams.dashboard import (
    Accounts,
    Dashboard,
    DashboardOptions,
    Role,
    Token,
    Tokens,
    new_token,
)
from tests.dashboard.board import ACCOUNTS
from tests.whatsapp.servers import serving

TOKENS = {name: new_token() for name in ("viewer", "operator", "admin", "shop")}

KNOWN = Tokens({
    TOKENS["viewer"][1]: Token("viewer", Role.VIEWER),
    TOKENS["operator"][1]: Token("operator", Role.OPERATOR),
    TOKENS["admin"][1]: Token("admin", Role.ADMIN),
    TOKENS["shop"][1]: Token("shop", Role.VIEWER, publishes=True),
})  # fmt: skip

OPERATIONS = Dashboard(
    Pipeline("redis://127.0.0.1:1/0"), DashboardOptions(tokens=KNOWN)
).api.operations

GROUP = "/streams/orders/groups/billing"


@asynccontextmanager
async def api(
    server,
    namespace,
    clock: Callable[[], float] = time.monotonic,
    max_len: int = 0,
    **options: Any,
) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Clients of the API by their tokens; '' has none. ``clock``: what rates are measured with."""
    made = DashboardOptions(Accounts(ACCOUNTS), Tokens(KNOWN._tokens, clock), **options)
    settings = Settings(url=server.url, namespace=namespace, max_len=max_len)
    dashboard = Dashboard(Pipeline(settings=settings), made)
    async with serving(dashboard.app) as url:
        clients = {
            name: httpx.AsyncClient(
                base_url=f"{url}/api/v1",
                headers={"Authorization": f"Bearer {token}"} if token else {},
            )
            for name, token in [
                ("", ""),
                *((name, token) for name, (token, _) in TOKENS.items()),
            ]
        }
        try:
            yield clients
        finally:
            for client in clients.values():
                await client.aclose()


def filled(path: str) -> str:
    return (
        path.replace("{stream}", "orders")
        .replace("{group}", "billing")
        .replace("{id}", "dies-0 plain")
    )


def made(schema: dict[str, Any], chance: random.Random) -> Any:
    """A value of a schema, and now and then one that is none."""
    if chance.random() < 0.1:
        return chance.choice(["", "x" * 600, -1, 10**30, "\u0000", "<b>", "🙂", 1.5])
    if "enum" in schema:
        return chance.choice(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        names = [
            n
            for n in schema.get("properties", {})
            if n in schema.get("required", ()) or chance.random() < 0.4
        ]
        return {name: made(schema["properties"][name], chance) for name in names}
    if kind == "array":
        return [made(schema["items"], chance) for _ in range(chance.randint(1, 3))]
    if kind == "integer":
        return chance.randint(schema.get("minimum", 0), schema.get("maximum", 100))
    if kind == "number":
        return round(chance.uniform(0.1, 100), 2)
    if kind == "boolean":
        return chance.random() < 0.5
    if "pattern" in schema:
        return (
            "orders" if "A-Z" in schema["pattern"] else f"{chance.randint(1, 10**12)}-0"
        )
    return chance.choice(["plain", "dies", "works", "dies-0 plain"])
