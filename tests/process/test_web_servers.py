"""A worker inside a web server: real servers, told to end once."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path

import pytest

from streams.sync import Pipeline
from tests.docs.blocks import blocks_of
from tests.servers import (
    BINARIES,
    clean_environment,
    free_port,
    wait_until,
    whole_lines,
)

ROOT = Path(__file__).parents[2]
APP = """
import asyncio, contextlib
from fastapi import FastAPI
from streams import Pipeline

pipeline = Pipeline.from_env()


@pipeline.handler("orders", group="billing")
async def charge(event):
    with open("handled", "a") as file:
        file.write(f"{event.data}\\n")


@contextlib.asynccontextmanager
async def lifespan(app):
    async with pipeline:
        worker = asyncio.create_task(pipeline.run(RUN))
        yield
        pipeline.stop()
        await worker


app = FastAPI(lifespan=lifespan)


@app.post("/orders")
async def create():
    await pipeline.publish("orders", "order", type="t")
"""
SERVERS = {
    "uvicorn": ["uvicorn", "app:app", "--port", "PORT"],
    "uvicorn on uvloop": ["uvicorn", "app:app", "--port", "PORT", "--loop", "uvloop"],
    "gunicorn": [
        "gunicorn",
        "-k",
        "uvicorn_worker.UvicornWorker",
        "-b",
        "127.0.0.1:PORT",
        "app:app",
    ],
    "hypercorn": ["hypercorn", "-b", "127.0.0.1:PORT", "app:app"],
}


@pytest.mark.parametrize(
    "run", ["", "signals=False"], ids=["with signals", "without signals"]
)
@pytest.mark.parametrize("name", SERVERS)
def test_one_signal_ends_a_web_server_with_a_worker_in_it(
    make_server, tmp_path, name, run
):
    server = make_server(BINARIES[0], port=True)
    (tmp_path / "app.py").write_text(textwrap.dedent(APP).replace("RUN", run))
    port = free_port()
    command = [part.replace("PORT", str(port)) for part in SERVERS[name]]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env=clean_environment()
            | {"PYTHONPATH": str(ROOT), "STREAMS_URL": server.url},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: posted(port), what="the web server to answer")
        wait_until(
            lambda: "order" in whole_lines(tmp_path / "handled"),
            what="the event to be handled",
        )
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    finally:
        process.kill()
        process.wait(10)
    said = (tmp_path / "log").read_text()
    assert "stopped" in said, "the worker has ended in order"
    assert "stopping now" not in said, (
        "the signal and the call of the web server are one order"
    )
    assert "Traceback" not in said


FLASK_APP = """
import time
from flask import Flask
from streams.sync import Pipeline

pipeline = Pipeline.from_env()
app = Flask(__name__)


@pipeline.handler("orders", group="billing", concurrency=1)
def charge(event):
    print("begun", flush=True)
    time.sleep(2)
    with open("handled", "a") as file:
        file.write(f"{event.data}\\n")


@app.post("/orders")
def create():
    pipeline.publish("orders", "order", type="t")
    return {}
"""


def test_one_sigterm_ends_gunicorn_with_a_worker_in_a_thread_and_nothing_is_lost(
    make_server, tmp_path
):
    """With the configuration that the page of Flask shows."""
    server = make_server(BINARIES[0], port=True)
    (tmp_path / "shop.py").write_text(FLASK_APP)
    (shown,) = (
        block
        for block in blocks_of(ROOT / "docs/how-to/flask.md")
        if block.title == "gunicorn.conf.py"
    )
    (tmp_path / "gunicorn.conf.py").write_text(shown.text)
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--threads", "2", "-b", f"127.0.0.1:{port}", "shop:app"],
            cwd=tmp_path, env=clean_environment() | {"PYTHONPATH": str(ROOT), "STREAMS_URL": server.url},
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until(lambda: posted(port), what="the web server to answer")
        assert posted(port), "a second one, which waits while the first is handled"
        wait_until(
            lambda: "begun" in (tmp_path / "log").read_text(),
            what="the handler to begin",
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(10)
    said = (tmp_path / "log").read_text()
    assert whole_lines(tmp_path / "handled") == ["order"], said
    assert "stopped  done=1" in said
    assert "Traceback" not in said
    with Pipeline(server.url) as pipeline:
        assert pipeline.status().stream("orders").stored == 1, (
            "the other one is there for the next worker"
        )


def test_a_second_ctrl_c_ends_both_now(make_server, tmp_path):
    """The web server waits for the lifespan, and tells nobody of it; the pipeline has to hear of it by itself."""
    server = make_server(BINARIES[0], port=True)
    stuck = APP.replace(
        "async def charge(event):",
        "async def charge(event):\n    print('begun', flush=True)\n    await asyncio.sleep(60)",
    )
    (tmp_path / "app.py").write_text(stuck.replace("RUN", ""))
    port = free_port()
    own = {
        "PYTHONPATH": str(ROOT),
        "STREAMS_URL": server.url,
        "STREAMS_GRACE_PERIOD": "60",
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)],
            cwd=tmp_path, env=clean_environment() | own, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until(lambda: posted(port), what="the web server to answer")
        wait_until(
            lambda: "begun" in (tmp_path / "log").read_text(),
            what="the handler to begin",
        )
        process.send_signal(signal.SIGINT)
        waits = "Waiting for application shutdown"
        wait_until(
            lambda: waits in (tmp_path / "log").read_text(),
            what="the web server to wait for the lifespan",
        )
        process.send_signal(signal.SIGINT)
        process.wait(30)  # Half of what the handler and its grace period would take.
    finally:
        process.kill()
        process.wait(10)
    said = (tmp_path / "log").read_text()
    assert "stopping now" in said
    assert "released=1" in said, "the event is given back"


def posted(port: int) -> bool:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/orders", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
