"""The examples, as a reader would run them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import eventually
from tests.servers import Server, clean_environment
from tests.whatsapp.sandboxes import Sandboxes
from tests.whatsapp.stage import PHONE
from tests.whatsapp.test_cli_whatsapp import running

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "whatsapp"


def inbound(ident: str, text: str, phone_number_id: str = "p1") -> bytes:
    """A call of Meta's with one message of somebody."""
    message = {
        "id": ident,
        "from": PHONE,
        "type": "text",
        "timestamp": "1",
        "text": {"body": text},
    }
    value = {"metadata": {"phone_number_id": phone_number_id}, "messages": [message]}
    return json.dumps(
        {"object": "x", "entry": [{"changes": [{"field": "messages", "value": value}]}]}
    ).encode()


def signature(raw: bytes, secret: str) -> dict[str, str]:
    signed = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    return {
        "X-Hub-Signature-256": f"sha256={signed}",
        "Content-Type": "application/json",
    }


def test_the_circle_balances():
    with tempfile.TemporaryDirectory(prefix="ci", dir="/tmp") as folder:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "circle.py")],
            capture_output=True, text=True, timeout=110, check=False, cwd=folder,
            env=clean_environment() | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 twice, 0 lost" in done.stdout
    assert "the breaker holds instance 2" in done.stdout
    assert "padaria" in done.stdout
    assert done.stderr == ""


FLASK = """
import json, sys, time
sys.path.insert(0, {examples!r})
from flask_app import app
from streams.whatsapp import get_message_queue
from streams.whatsapp.queue import reset

client, calls = app.test_client(), json.load(sys.stdin)
found = []
for method, path, body, headers in calls:
    reply = client.open(path, method=method, data=body, headers=headers)
    found.append([reply.status_code, reply.get_data(as_text=True)])
queue = get_message_queue()
while queue.get_queue_size() or queue.get_processing_count():
    time.sleep(0.02)
ident = json.loads(found[0][1])["message_id"]
found.append(client.get("/messages/" + ident).get_json())
found.append(client.get("/messages/unknown").status_code)
reset()
print(json.dumps(found))
"""


async def test_a_flask_application_answers_through_the_queue(tmp_path):
    order = json.dumps({"phone": PHONE, "number": "42", "shop": "padaria"})
    kind, written = {"Content-Type": "application/json"}, inbound("wamid.in1", "Oi")
    calls: list[Any] = [
        ("POST", "/orders", order, kind),
        ("POST", "/orders", order, kind),
        (
            "GET",
            "/webhook?hub.mode=subscribe&hub.verify_token=choose-one&hub.challenge=77",
            None,
            None,
        ),
        ("GET", "/webhook?hub.verify_token=wrong", None, None),
        ("POST", "/webhook", written.decode(), signature(written, "meta")),
        ("POST", "/webhook", written.decode(), signature(written, "meta")),
        ("POST", "/webhook", written.decode(), signature(written, "wrong")),
    ]
    async with Sandboxes() as sandbox:
        environment = clean_environment() | {
            "PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(tmp_path), "STREAMS_WHATSAPP_APP_SECRET": "meta",
            **sandbox.environment,
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FLASK.format(examples=str(EXAMPLES))),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path,
        )  # fmt: skip
        output, log = await asyncio.wait_for(
            process.communicate(json.dumps(calls).encode()), 60
        )
        assert process.returncode == 0, log.decode()
        found = json.loads(output.splitlines()[-1])
        assert [row[0] for row in found[:7]] == [201, 201, 200, 403, 200, 200, 403]
        assert found[0] == found[1]
        assert found[2][1] == "77"
        assert found[7:] == [{"status": "sent"}, 404]
        told, answered = sandbox.phone.taken
        assert told.body["text"]["body"] == "Recebemos o seu pedido 42."
        assert answered.body["context"] == {"message_id": "wamid.in1"}
        assert PHONE not in log.decode()


async def test_the_bot_answers_once_in_order_by_the_instance_that_was_written_to(
    server: Server, namespace
):
    async with Sandboxes() as sandbox:
        environment = os.environ | {
            "STREAMS_URL": server.url, "STREAMS_NAMESPACE": namespace, "STREAMS_WHATSAPP_APP_SECRET": "meta",
            "STREAMS_WHATSAPP_INBOUND": "true", **sandbox.environment, "PYTHONPATH": str(EXAMPLES.parents[1]),
        }  # fmt: skip
        async with (
            running(environment, "worker", "examples.whatsapp.bot:pipeline"),
            running(environment, "whatsapp", "webhook", "--port", "0") as webhook,
        ):
            assert webhook.stderr is not None
            while b"webhooks at " not in (
                line := await asyncio.wait_for(webhook.stderr.readline(), 30)
            ):
                assert line, "the webhook did not start"
            url = line.decode().split(" at ")[1].split(";")[0]
            async with httpx.AsyncClient() as client:
                for ident, text in (
                    ("wamid.1", "oi"),
                    ("wamid.2", " Horário "),
                    ("wamid.1", "oi"),
                ):
                    raw = inbound(ident, text)
                    reply = await client.post(
                        f"{url}/meta", content=raw, headers=signature(raw, "meta")
                    )
                    assert reply.status_code == 200
            await eventually(lambda: len(sandbox.phone.taken) == 2, seconds=30.0)
    menu, hours = sandbox.phone.taken
    assert menu.body["interactive"]["type"] == "button"
    assert hours.body["text"]["body"].startswith("Abrimos de segunda")
    assert [row.body["context"]["message_id"] for row in (menu, hours)] == [
        "wamid.1",
        "wamid.2",
    ]


@pytest.mark.parametrize("name", ["circle.py", "bot.py", "flask_app.py"])
def test_an_example_says_how_it_is_run(name):
    head = (EXAMPLES / name).read_text("utf-8").split('"""')[1]
    assert name.removesuffix(".py") in head
