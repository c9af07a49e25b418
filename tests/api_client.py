"""A client that openapi-python-client makes of the document, against a real server: ``make api-client``.

It is generated anew, and has to be complete: what the generator could not make of the document fails. Then it
publishes, looks and errs, and each answer has to be an object of the class that the document names.
"""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from streams import Pipeline, Settings
from streams.dashboard import (
    Dashboard,
    DashboardOptions,
    Role,
    Token,
    Tokens,
    new_token,
)
from tests.dashboard.board import trouble
from tests.servers import BINARIES, Server
from tests.whatsapp.servers import serving


async def main() -> int:
    """Generate, serve and ask."""
    server, (token, hashed) = Server(BINARIES[0]).start(), new_token()
    options = DashboardOptions(
        tokens=Tokens({hashed: Token("client", Role.ADMIN, publishes=True)})
    )
    dashboard = Dashboard(
        Pipeline(settings=Settings(url=server.url, namespace="client")), options
    )
    try:
        await trouble(server, "client", ["one", "two"])
        with tempfile.TemporaryDirectory() as place:
            generate(Path(place), dashboard.api.document())
            sys.path.insert(0, place)
            async with serving(dashboard.app) as url:
                client = importlib.import_module("made").AuthenticatedClient(
                    f"{url}/api/v1", token=token
                )
                for what in await asked(client):
                    print(what)
        return 0
    finally:
        server.close()


def generate(place: Path, document: bytes) -> None:
    """Make the client, as the package ``made``."""
    (place / "openapi.json").write_bytes(document)
    (place / "config.yaml").write_text("post_hooks: []\n")
    command = (
        str(Path(sys.executable).parent / "openapi-python-client"), "generate", "--path", "openapi.json",
        "--meta", "none", "--output-path", "made", "--config", "config.yaml", "--fail-on-warning",
    )  # fmt: skip
    subprocess.run(command, cwd=place, check=True)


async def asked(client: Any) -> list[str]:
    """Publish, look and err; the classes of the answers."""
    models = importlib.import_module("made.models")

    async def call(part: str, name: str, *arguments: Any, **options: Any) -> Any:
        return await importlib.import_module(f"made.api.{part}.{name}").asyncio(
            *arguments, client=client, **options
        )

    group = {"stream": "orders", "group": "billing"}
    event = models.PublishBody(type_="works", data={"n": 1}, tenant="acme", version="2")
    receipt = await call("events", "publish", "orders", body=event, idempotency_key="k")
    letters = await call("dead_letters", "list_dead_letters", **group, limit=2)
    found = {
        "Receipt": receipt,
        "GetEventAnswer": await call("events", "get_event", "orders", receipt.event_id),
        "Reasons": await call("events", "explain_waiting", "orders", event="later-0"),
        "StreamView": await call("streams", "get_stream", "orders"),
        "ListStreamsAnswer": await call("streams", "list_streams"),
        "ListDeadLettersAnswer": letters,
        "DeadLetter": letters.letters[0],
        "ListAuditAnswer": await call("operating", "list_audit", "orders"),
        "ExamineAnswer": await call("operating", "examine"),
        "Problem": await call("streams", "get_stream", "missing"),
    }
    for name, answer in found.items():
        assert type(answer) is getattr(models, name), (name, answer)
    assert (found["Problem"].status, found["Problem"].code) == (404, "not-found")
    return sorted(found)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
