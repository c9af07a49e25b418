"""``streams whatsapp``, as it is typed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from streams.errors import ConfigurationError
from streams.whatsapp.bulk import Plan, campaign_of, read
from streams.whatsapp.vault import Vault
from tests import terminal
from tests.conftest import eventually
from tests.servers import Server
from tests.whatsapp.sandboxes import Sandboxes
from tests.whatsapp.stage import PHONE

ROWS = f"phone;nome\n{PHONE};Ana\n5511999990001;Bia\n12;Zé\n+55 11 99999-0001;Bia\n5511999990003;\n"


def settings(server: Server, namespace: str, **more: str) -> dict[str, str]:
    return os.environ | {
        "STREAMS_URL": server.url,
        "STREAMS_NAMESPACE": namespace,
        **more,
    }


async def typed(environment: dict[str, str], *arguments: str, code: int = 0) -> str:
    done = await asyncio.to_thread(
        terminal.run, "whatsapp", *arguments, env=environment
    )
    output = done.out + done.err
    assert done.code == code, output
    assert PHONE not in output
    return output


@contextlib.asynccontextmanager
async def running(
    environment: dict[str, str], *arguments: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streams", *arguments),
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), 20)


async def test_send_follow_and_count(server, namespace, tmp_path):
    async with Sandboxes() as sandbox:
        environment = settings(server, namespace, **sandbox.environment)
        async with running(environment, "worker", "streams.whatsapp.app:pipeline"):
            said = await typed(environment, "send", PHONE, "Olá!", "--json")
            ident = json.loads(said)["message_id"]
            await eventually(lambda: len(sandbox.phone.taken) == 1, seconds=20)

            async def is_sent() -> bool:
                return f"{ident}: sent" in await typed(environment, "status", ident)

            await eventually(is_sent)
            record = json.loads(
                await typed(
                    environment, "status", sandbox.phone.taken[0].wamid, "--json"
                )
            )
            assert (record["id"], record["status"]) == (ident, "sent")
            path = tmp_path / "contacts.csv"
            path.write_text(ROWS, "utf-8")
            rows = ("send", "--csv", str(path), "--text", "Olá {nome}!")
            assert "2 of 5 rows could be queued; nothing was" in await typed(
                environment, *rows, "--dry-run", code=1
            )
            said = await typed(environment, *rows, code=1)
            assert "queued 2 of 5 rows, refused 3" in said
            assert "line 5: the same recipient as in line 3" in said
            said = await typed(environment, *rows, "--json", code=1)
            again = json.loads(said[said.index("{") : said.rindex("}") + 1])
            assert (again["queued"], again["queued_before"]) == (0, 2)
            await eventually(lambda: len(sandbox.phone.taken) == 3, seconds=20)
            assert {taken.body["text"]["body"] for taken in sandbox.phone.taken} == {
                "Olá!",
                "Olá Ana!",
                "Olá Bia!",
            }
            counts = json.loads(await typed(environment, "stats", "--json"))
            assert counts["total"]["sent"] == counts["figures"]["1"]["sent"] == 3
            assert "TENANT" in await typed(environment, "stats", "--days", "2")
            for by in ("instance", "day", "hour"):
                assert by.upper() in await typed(
                    environment, "stats", "--tenant", "1", "--by", by
                )
            assert "--tenant" in await typed(
                environment, "stats", "--by", "day", code=2
            )
    assert "known (any more)" in await typed(environment, "status", "nothing", code=3)
    assert "give a phone and a text" in await typed(environment, "send", code=2)


async def test_instances_are_shown_checked_paused_and_resumed(server, namespace):
    async with Sandboxes() as sandbox:
        environment = settings(server, namespace, **sandbox.environment)
        await typed(environment, "send", PHONE, "x")
        assert "open" in await typed(environment, "instances", "ls", "--check")
        sandbox.phone.disconnected.add("p1")
        assert "closed" in await typed(environment, "instances", "ls", "--check")
        assert "paused instance 1" in await typed(
            environment, "instances", "pause", "1", "--reason", "why"
        )
        assert "paused already" in await typed(environment, "instances", "pause", "1")
        (row,) = json.loads(await typed(environment, "instances", "ls", "--json"))[
            "instances"
        ]
        assert row["paused"].endswith("why")
        assert "resumed instance 1" in await typed(
            environment, "instances", "resume", "1"
        )
        assert "is not paused" in await typed(environment, "instances", "resume", "1")


async def test_endpoints_are_added_shown_rotated_and_removed(server, namespace):
    environment = settings(server, namespace, STREAMS_WHATSAPP_WEBHOOK_KEY="master")
    url = "https://acme.example/hook"
    made = json.loads(
        await typed(
            environment,
            "endpoints",
            "add",
            "acme",
            url,
            "--event",
            "message.failed",
            "--json",
        )
    )
    ident = made["endpoint"]["id"]
    assert made["secret"].startswith("whsec_")
    shown = await typed(environment, "endpoints", "ls", "--tenant", "acme")
    assert ident in shown
    assert made["secret"] not in shown
    rotated = await typed(environment, "endpoints", "rotate", ident)
    assert "whsec_" in rotated
    assert made["secret"] not in rotated
    assert "enabled" in await typed(environment, "endpoints", "enable", ident)
    assert "removed" in await typed(environment, "endpoints", "rm", ident)
    assert "no endpoint" in await typed(environment, "endpoints", "rm", ident, code=3)
    assert json.loads(await typed(environment, "endpoints", "ls", "--json")) == {
        "endpoints": []
    }
    assert "port 443" in await typed(
        environment, "endpoints", "add", "acme", "http://10.0.0.1/", code=2
    )
    del environment["STREAMS_WHATSAPP_WEBHOOK_KEY"]
    assert "WEBHOOK_KEY" in await typed(
        environment, "endpoints", "add", "acme", url, code=2
    )


async def test_the_sandbox_and_the_webhook_are_served():
    environment = os.environ | {
        "STREAMS_URL": "memory://x",
        "STREAMS_WHATSAPP_APP_SECRET": "s",
    }
    async with running(
        environment, "whatsapp", "sandbox", "--port", "0", "--fault", "131000=1.0"
    ) as process:
        assert process.stderr is not None
        address = (
            (await asyncio.wait_for(process.stderr.readline(), 20))
            .decode()
            .split()[3]
            .rstrip(";")
        )
        async with httpx.AsyncClient(
            base_url=address, headers={"Authorization": "Bearer t"}
        ) as client:
            body = {
                "messaging_product": "whatsapp",
                "recipient_type": "individual",
                "to": f"+{PHONE}",
            }
            body |= {"type": "text", "text": {"body": "<b>"}}
            answer = await client.post("/v25.0/p1/messages", json=body)
            assert answer.json()["error"]["code"] == 131000
            await client.post("/sandbox/faults", json=[])
            assert (await client.post("/v25.0/p1/messages", json=body)).json()[
                "messages"
            ]
            page = (await client.get("/")).text
            assert "1 message was taken" in page
            assert PHONE not in page
            assert (await client.post("/v25.0/p1/messages", json={})).json()["error"][
                "code"
            ] == 100
            client.headers.pop("Authorization")
            assert (
                await client.post("/v25.0/p1/messages", json=body)
            ).status_code == 401
    assert "CODE=SHARE" in await typed(environment, "sandbox", "--fault", "x", code=2)
    del environment["STREAMS_WHATSAPP_APP_SECRET"]
    assert "every call would be refused" in await typed(environment, "webhook", code=2)


@pytest.mark.parametrize(
    ("text", "plan", "match"),
    [
        ("nome\nAna\n", {"text": "x"}, "no column phone"),
        ("phone\n5511999990000\n", {"text": "Olá {nome}"}, "no column nome"),
        (
            "phone\n5511999990000\n",
            {"template": "t", "parameters": ("nome",)},
            "no column nome",
        ),
    ],
)
def test_files_without_a_column_are_refused(tmp_path: Path, text, plan, match):
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=match):
        list(read(path, Plan(**plan)))


def test_plans_and_files_that_cannot_be_are_refused(tmp_path: Path):
    for plan in (
        {},
        {"text": "x", "template": "t"},
        {"text": "x", "parameters": ("a",)},
    ):
        with pytest.raises(ConfigurationError):
            Plan(**plan)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        list(read(tmp_path / "nowhere", Plan(text="x")))
    (tmp_path / "latin").write_bytes("phone\né\n".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        list(read(tmp_path / "latin", Plan(text="x")))


def test_a_template_takes_its_parameters_in_order(tmp_path: Path):
    path = tmp_path / "c.csv"
    path.write_text("phone,b,a\n5511999990000,B,A\n")
    (row,) = read(path, Plan(template="t", parameters=("a", "b")))
    assert row.content is not None
    assert [p["text"] for p in row.content.body()["components"][0]["parameters"]] == [
        "A",
        "B",
    ]
    assert campaign_of(path, Plan(text="x")) != campaign_of(path, Plan(text="y"))


async def test_people_are_left_alone_and_forgotten(server, namespace):
    environment = settings(server, namespace, STREAMS_WHATSAPP_PROVIDER="sandbox")
    assert "no marketing of tenant acme goes to +55" in await typed(
        environment, "suppressions", "add", PHONE, "--tenant", "acme"
    )
    assert "as before" in await typed(
        environment, "suppressions", "add", PHONE, "--tenant", "acme"
    )
    assert "no message of" in await typed(
        environment, "suppressions", "add", PHONE, "--tenant", "acme", "--all"
    )
    (row,) = json.loads(await typed(environment, "suppressions", "ls", "--json"))[
        "suppressions"
    ]
    assert (row["tenant"], row["scope"], row["reason"]) == ("acme", "all", "operator")
    assert row["recipient"] in await typed(
        environment | {"COLUMNS": "200"}, "suppressions", "ls", "--tenant", "acme"
    )
    assert "again" in await typed(
        environment, "suppressions", "rm", PHONE, "--tenant", "acme"
    )
    assert "nothing suppressed" in await typed(
        environment, "suppressions", "rm", PHONE, "--tenant", "acme"
    )
    said = await typed(
        environment, "send", PHONE, "Olá!", "--delay", "600", "--marketing", "--json"
    )
    ident = json.loads(said)["message_id"]
    assert ident in await typed(
        environment | {"COLUMNS": "200"}, "status", "--phone", PHONE
    )
    (message,) = json.loads(
        await typed(environment, "status", "--phone", PHONE, "--json")
    )["messages"]
    assert (message["id"], message["status"]) == (ident, "pending")
    assert "give an id, or --phone" in await typed(environment, "status", code=2)
    assert "1 scheduled" in await typed(environment, "erase", "--phone", PHONE)
    assert "nothing is stored" in await typed(environment, "erase", "--phone", PHONE)
    key = (await typed(environment, "new-key")).strip()
    assert Vault(key).seals
