"""The blocking form where something else than threads and asyncio rules: gevent, eventlet, notebooks."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from tests.process.test_sync_process import ended, start
from tests.servers import BINARIES, clean_environment, free_port, wait_until

ROOT = Path(__file__).parents[2]

GREENLETS = """
import os, sys
from gevent import monkey
monkey.patch_all(PATCHED)
import gevent
from streams.sync import Pipeline

first, second = Pipeline(sys.argv[1]), Pipeline(sys.argv[1])
for n in range(3):
    first.publish("orders", n, type="t")
jobs = [gevent.spawn((first, second)[n % 2].publish, "orders", n, type="t") for n in range(20)]
gevent.joinall(jobs, raise_error=True)
assert len({job.value.entry_id for job in jobs}) == 20

ticks, go_on = [], []

async def long(pipeline):
    import asyncio
    while not go_on:
        await asyncio.sleep(0.001)

def tick():
    for n in range(10):
        gevent.sleep(0.001)
        ticks.append(n)
    go_on.append(True)

ticking = gevent.spawn(tick)
first.portal.call(long)
assert len(ticks) == 10, "other greenlets go on while one waits"

go_on.clear()
waiting = gevent.spawn(first.portal.call, long)
with gevent.Timeout(0.1, False):
    first.portal.call(long)
waiting.kill()
pid = os.fork()
if pid == 0:
    first.publish("orders", "child", type="t")
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
first.close()
first.publish("orders", "again", type="t")
stored = second.status().stream("orders").stored
assert stored == 25, stored
print("ok")
"""


@pytest.mark.parametrize("patched", ["", "thread=False"])
@pytest.mark.parametrize("kind", ["server", "embedded"])
def test_under_gevent_greenlets_publish_and_others_go_on(
    make_server, tmp_path, kind, patched
):
    url = (
        make_server(BINARIES[0], port=True).url
        if kind == "server"
        else f"embedded://{tmp_path / 'data'}"
    )
    code, out, err = ended(
        start(
            GREENLETS.replace("PATCHED", patched), url.replace("127.0.0.1", "localhost")
        )
    )
    assert (code, out) == (0, "ok\n"), err
    assert "Traceback" not in err


def test_a_worker_does_not_run_where_gevent_has_replaced_threads():
    code = """
        from gevent import monkey; monkey.patch_all()
        from streams.sync import Pipeline
        pipeline = Pipeline()
        pipeline.handler("orders", group="g")(print)
        pipeline.run()
    """
    _, _, err = ended(start(textwrap.dedent(code)))
    assert (
        "ConfigurationError: gevent has replaced sockets and threads"
        in err.splitlines()[-1]
    )


def test_under_eventlet_the_first_call_is_refused():
    code = """
        import warnings; warnings.simplefilter("ignore")
        import eventlet; eventlet.monkey_patch()
        from streams.sync import Pipeline
        Pipeline().publish("orders", 1, type="t")
    """
    _, _, err = ended(start(textwrap.dedent(code)))
    assert (
        "ConfigurationError: eventlet has replaced sockets and threads"
        in err.splitlines()[-1]
    )


def test_gunicorn_with_gevent_answers_more_than_the_first_request(
    make_server, tmp_path
):
    server = make_server(BINARIES[0], port=True)
    (tmp_path / "shop.py").write_text(
        textwrap.dedent("""
            from flask import Flask
            from streams.sync import Pipeline

            app, pipeline = Flask(__name__), Pipeline.from_env()

            @app.post("/orders")
            def create():
                return pipeline.publish("orders", 1, type="t").entry_id, 202
        """)
    )
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                "-k",
                "gevent",
                "-w",
                "1",
                "-b",
                f"127.0.0.1:{port}",
                "shop:app",
            ],
            cwd=tmp_path,
            env=clean_environment()
            | {"PYTHONPATH": str(ROOT), "STREAMS_URL": server.url},
            stdout=log,
            stderr=log,
        )

    def posted(_: int = 0) -> int:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/orders", method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except OSError as error:
            return getattr(error, "code", 0)

    try:
        wait_until(lambda: posted() == 202, what="the first request")
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(posted, range(24))) == {202}
        process.terminate()
        process.wait(20)
    finally:
        process.kill()
        process.wait(10)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_notebook_awaits_and_blocks(make_server):
    server = make_server(BINARIES[0], port=True)
    manager, client = start_new_kernel(
        kernel_name="python3", env=clean_environment() | {"PYTHONPATH": str(ROOT)}
    )
    try:
        said: list[str] = []

        def cell(code: str) -> dict:
            def heard(message: dict) -> None:
                said.append(message["content"].get("text", ""))

            return client.execute_interactive(
                textwrap.dedent(code), timeout=60, output_hook=heard
            )["content"]

        for code in (
            f"from streams import Pipeline; pipeline = await Pipeline({server.url!r}).__aenter__()",
            "print((await pipeline.publish('orders', 1, type='t')).entry_id)",
            f"import streams.sync; blocking = streams.sync.Pipeline({server.url!r})",
            "print(blocking.publish('orders', 2, type='t').entry_id, blocking.status().stream('orders').stored)",
            "await pipeline.__aexit__(None, None, None); blocking.close()",
        ):
            assert cell(code)["status"] == "ok", code
        assert "".join(said).split()[-1] == "2"
        assert "use streams.Pipeline here" in cell("blocking.run()")["evalue"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
