"""A dashboard that is served, over a server with something of everything."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from ipaddress import ip_network

import httpx

from streams import Event, Pipeline, Retry, Settings
from streams.broker.admin.figures import FigureStore
from streams.dashboard import (
    Accounts,
    Dashboard,
    DashboardOptions,
    Proxy,
    Role,
    hash_password,
)
from streams.dashboard.accounts import Account
from tests.conftest import eventually
from tests.servers import Server
from tests.whatsapp.servers import serving

PASSWORD = "a long enough password"
_HASHED = hash_password(PASSWORD)
ACCOUNTS = {
    role.name.lower(): Account(role.name.lower(), role, _HASHED) for role in Role
}


class Board:
    """What a test has in hand: the dashboard, its address, and clients that are logged in."""

    def __init__(self, dashboard: Dashboard, url: str, pipeline: Pipeline) -> None:
        self.dashboard = dashboard
        self.url = url
        self.pipeline = pipeline
        self.clients: list[httpx.AsyncClient] = []

    def client(self, **headers: str) -> httpx.AsyncClient:
        """Somebody's browser."""
        # Certificates of authorities take 30 ms to load, and nothing here is asked by TLS.
        made = httpx.AsyncClient(
            base_url=self.url, headers={"Accept": "text/html", **headers}, verify=False
        )
        self.clients.append(made)
        return made

    async def log_in(self, name: str, **headers: str) -> httpx.AsyncClient:
        """Somebody's browser, logged in."""
        made = self.client(**headers)
        reply = await made.post("/login", data={"name": name, "password": PASSWORD})
        assert (reply.status_code, reply.headers["location"]) == (303, "/")
        return made


def token_in(page: str) -> str:
    """What the forms of a page carry."""
    found = re.search(r'name="token" value="([0-9a-f]+)"', page)
    assert found is not None, "no form with a token"
    return found[1]


async def do(
    client: httpx.AsyncClient, path: str, form: dict[str, str]
) -> httpx.Response:
    """Do something that is asked about first, as somebody who says yes."""
    asked = await client.post(path, data=form)
    if asked.status_code != 200:
        return asked
    assert "Are you sure?" in asked.text
    assert "This is written to the audit trail." in asked.text
    return await client.post(path, data=fields_of(asked.text))


def fields_of(page: str) -> dict[str, str]:
    """What the form of the page that asks would send."""
    fields = [
        found
        for tag, found in Tags(page).tags
        if tag == "input" and found.get("name") not in (None, "q")
    ]
    return {found["name"] or "": found.get("value") or "" for found in fields}


@asynccontextmanager
async def board(
    server: Server,
    namespace: str,
    *,
    accounts: dict[str, Account] | None = None,
    read_only: bool = False,
    proxy: Proxy | None = None,
    secret: str = "",
    behind: str = "",
) -> AsyncIterator[Board]:
    """Serve a dashboard."""
    settings = Settings(url=server.url, namespace=namespace)
    known = Accounts(ACCOUNTS if accounts is None else accounts)
    options = DashboardOptions(
        known,
        secret=secret,
        read_only=read_only,
        proxy=proxy,
        behind=tuple(map(ip_network, behind.split())),
    )
    dashboard = Dashboard(Pipeline(settings=settings), options)
    async with serving(dashboard.app) as url, Pipeline(settings=settings) as pipeline:
        made = Board(dashboard, url, pipeline)
        try:
            yield made
        finally:
            for client in made.clients:
                await client.aclose()


async def trouble(
    server: Server, namespace: str, texts: list[str] | None = None
) -> None:
    """Entries in every state, and errors; ``texts`` go into every field that takes them."""
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))
    texts = texts or ["plain"]

    @pipeline.handler(
        "orders", group="billing", types=["dies"], retry=Retry(max_retries=0)
    )
    async def dies(event: Event) -> None:
        raise OSError(event.data["say"])

    @pipeline.handler(
        "orders",
        group="billing",
        types=["waits"],
        retry=Retry(delay=3600.0, jitter=0.0),
    )
    async def waits(event: Event) -> None:
        raise ValueError(event.data["say"])

    @pipeline.handler("orders", group="billing", types=["works"])
    async def works(event: Event) -> None:
        return None

    running = asyncio.create_task(pipeline.run())
    async with pipeline.twin() as looking:
        for n, text in enumerate(texts):
            named = "" if text[:4].isdigit() else text  # Ids are shown as they are.
            more = {
                "tenant": text,
                "subject": text,
                "key": text,
                "source": text,
                "headers": {"note": text},
            }
            for kind in ("dies", "waits", "works"):
                await looking.publish(
                    "orders",
                    {"say": text},
                    type=kind,
                    id=f"{kind}-{n} {named}"[:400],
                    **more,
                )
            await looking.publish(
                "orders",
                {"say": text},
                type="works",
                delay=3600.0,
                id=f"later-{n}",
                **more,
            )
            await looking.publish(
                "orders", {"say": text}, type=text[:200], id=f"strange-{n}", **more
            )
        letters = looking.dead_letters("orders", "billing")

        async def settled() -> bool:
            waiting = await looking.broker.control.call(
                "ZCARD", looking.broker.keys("orders").retry("billing")
            )
            return await letters.count() == 2 * len(texts) and waiting == len(texts)

        await eventually(settled, seconds=30.0, what="entries in every state")
        store = FigureStore(looking.broker, looking.broker.keys("orders"), "billing")
        await store.count(
            {"done": 3},
            "worker-1",
            {"host": texts[0], "busy": 1, "concurrency": 10, "since": 1.0},
        )
        pipeline.stop()
        await running
        for text in texts:
            await looking.pauses("orders", by=text).pause(tenant=text, reason=text)


class Tags(HTMLParser):
    """What a page is made of: every element with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(
        self, tag: str, attributes: list[tuple[str, str | None]]
    ) -> None:
        self.tags.append((tag, dict(attributes)))

    def links(self) -> list[str]:
        """Where its links lead."""
        return [
            found["href"] or ""
            for tag, found in self.tags
            if tag == "a" and "href" in found
        ]
