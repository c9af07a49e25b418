"""``streams worker`` as a program: what it runs, what it refuses, and how it ends."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from unittest.mock import patch

import pytest

from streams import ConfigurationError, Pipeline
from streams.cli.loading import load
from tests.process.commands import SHOP, _has, group
from tests.process.commands import cli as cli
from tests.process.commands import server as server
from tests.servers import wait_until


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("shop", "shop:pipeline"),
        ("nope:pipeline", "no module 'nope'"),
        ("nope.py:pipeline", "no file nope.py"),
        ("shop:nope", "it has pipeline"),
        ("shop.py:nothing", "not a streams.Pipeline"),
        ("broken:pipeline", "broken.py:1"),
        ("broken.py:pipeline", "broken.py:1"),
        ("empty:pipeline", "Pipeline.from_env()"),
    ],
)
def test_worker_targets(tmp_path, target, hint):
    (tmp_path / "shop.py").write_text(textwrap.dedent(SHOP))
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "empty.py").write_text("")
    with patch.dict(sys.modules), patch.object(sys, "path", sys.path[:]):
        with pytest.raises(ConfigurationError) as refused:
            load(target)
        assert hint in str(refused.value)
        assert isinstance(load("shop.py:pipeline"), Pipeline)
        assert isinstance(load(f"{tmp_path}/shop.py:pipeline"), Pipeline)


@pytest.mark.parametrize("name", ["streams", "redis"])
def test_a_name_that_is_taken_is_told(cli, name):
    """Python says only that a part of a package is missing, which the reader takes for a wrong installation."""
    (cli.folder / name).mkdir()
    (cli.folder / name / "tasks.py").write_text("")
    sentence = cli.refused("worker", f"{name}.tasks:pipeline", code=2, process=True)
    assert (
        f"{name} has the name of a package that is needed here: give it another name"
        in sentence
    )


def test_worker_refuses_what_it_cannot_run(cli):
    (cli.folder / "bare.py").write_text(
        "from streams import Pipeline\npipeline = Pipeline.from_env()"
    )
    assert "no handler" in cli.refused("worker", "bare:pipeline", code=2, process=True)
    assert "no module 'nope'" in cli.refused(
        "worker", "nope:pipeline", code=2, process=True
    )


CLOSED = """
    from streams import Pipeline
    from streams.middleware import Middleware

    class Pool(Middleware):
        def start(self, place):
            raise OSError("no route to the database")

    pipeline = Pipeline.from_env()
    pipeline.middleware.append(Pool())
    pipeline.handler("orders", group="billing")(print)
"""


def test_a_middleware_that_cannot_start_is_one_sentence_and_an_exit_code(cli):
    (cli.folder / "closed.py").write_text(textwrap.dedent(CLOSED))
    said = cli.process("worker", "closed.py:pipeline", code=1).stderr
    (line,) = [line for line in said.splitlines() if "the worker ends" in line]
    assert (
        "the middleware Pool cannot start for orders/billing: OSError: no route to the database"
        in line
    )
    assert "error_at=closed.py:" in line
    (line,) = [
        line
        for line in cli.process(
            "worker", "closed.py:pipeline", code=1, STREAMS_LOG="json"
        ).stderr.splitlines()
        if "the worker ends" in line
    ]
    assert json.loads(line)["error"] == "OSError"


def test_an_idle_worker_ends_at_once(cli):
    (cli.folder / "shop.py").write_text(textwrap.dedent(SHOP))
    with cli.start("worker", "shop.py:pipeline") as worker:
        wait_until(
            lambda: _has(cli) and cli.json("ls")["streams"][0]["groups"],
            what="the worker to run",
        )
        began = time.monotonic()
        worker.terminate()
        _, log = worker.communicate(timeout=10)
    assert time.monotonic() - began < 3
    assert worker.returncode == 0, log
    assert "started" in log
    assert "stopped" in log


STUCK = """
    import asyncio, time
    from streams import Pipeline

    pipeline = Pipeline.from_env()

    @pipeline.handler("orders", group="billing")
    async def stuck(event):
        open("running", "w").close()
        await asyncio.to_thread(time.sleep, 1000)
"""


def test_a_thread_that_never_returns_cannot_hold_up_the_exit(cli):
    (cli.folder / "stuck.py").write_text(textwrap.dedent(STUCK))
    cli("publish", "orders", "--type", "order", "--data", "1")
    with cli.start("worker", "stuck:pipeline", "--grace-period", "0.2") as worker:
        wait_until((cli.folder / "running").exists, what="the handler to run")
        worker.terminate()
        _, log = worker.communicate(timeout=20)
    assert worker.returncode == 70, log
    level = next(row for row in group(cli)["levels"] if row["level"] == 0)
    assert (level["waiting"], level["processing"], level["retrying"]) == (0, 0, 1)
