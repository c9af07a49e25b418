"""Handlers that use Django's database live through its restart, and hold no connection that they do not need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from streams import Broker, DeadLetters, Event, Producer
from tests import terminal
from tests.conftest import eventually
from tests.postgres import Postgres, binaries
from tests.servers import whole_lines

APP = """
import os
from pathlib import Path
import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "tests",
        "HOST": os.environ["TEST_DATABASE"], "CONN_MAX_AGE": None if os.environ["TEST_AGE"] == "none" else 0,
    }},
)
django.setup()

from asgiref.sync import sync_to_async
from django.db import connection
from streams import Event, Pipeline, Retry

pipeline = Pipeline.from_env()
log = os.open(os.environ["TEST_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def query(event):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.05)")
    os.write(log, f"{event.stream} {event.data}\\n".encode())

@pipeline.handler("plain", group="g", concurrency=8, retry=Retry(max_retries=1, delay=0.0))
def plain(event: Event) -> None:
    query(event)

@pipeline.handler("awaited", group="g", concurrency=8, retry=Retry(max_retries=1, delay=0.0))
async def awaited(event: Event) -> None:
    await sync_to_async(query)(event)
"""
SHORT_LIVES = """
from streams.handlers import threads
threads._IDLE_SECONDS = 0.2
"""
IN_TESTS = """
import os
from django.conf import settings

settings.configure(
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "tests",
        "HOST": os.environ["TEST_DATABASE"], "CONN_MAX_AGE": 60,
    }},
)
import django
django.setup()

from asgiref.sync import sync_to_async
from django.db import connection
from django.test.utils import setup_databases, teardown_databases
from streams.sync import Pipeline
from streams.testing import BlockingHarness

pipeline = Pipeline()

def query(event):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")

if os.environ["TEST_FORM"] == "plain":
    pipeline.handler("orders", group="g")(query)
else:
    pipeline.handler("orders", group="g")(sync_to_async(query))

before = setup_databases(verbosity=0, interactive=False)
with BlockingHarness(pipeline, url=os.environ["TEST_SERVER"], raise_errors=True) as harness:
    pipeline.publish_many("orders", range(16), type="t")
    assert harness.drain(within=60) == 16
teardown_databases(before, verbosity=0)
"""
pytestmark = pytest.mark.skipif(
    binaries() is None, reason="PostgreSQL is not installed"
)


@pytest.fixture(scope="module")
def database():
    running = Postgres().start()
    yield running
    running.close()


def connections(database: Postgres) -> int:
    """How many the worker has."""
    with psycopg.connect(
        host=str(database.folder), user="tests", dbname="postgres"
    ) as own:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tests' AND pid <> pg_backend_pid()"
        row = own.execute(asked + " AND backend_type = 'client backend'").fetchone()
    return row[0] if row else 0


@pytest.mark.parametrize("age", ["none", "0"])
async def test_no_event_dies_of_a_restart_of_the_database(
    server, namespace, database, tmp_path: Path, age
) -> None:
    log, app = tmp_path / "log", tmp_path / "app.py"
    log.touch()
    app.write_text(APP)
    environment = os.environ | {
        "STREAMS_URL": server.url, "STREAMS_NAMESPACE": namespace, "STREAMS_LOG_LEVEL": "error",
        "TEST_LOG": str(log), "TEST_DATABASE": str(database.folder), "TEST_AGE": age,
    }  # fmt: skip

    def done(stream: str) -> list[list[str]]:
        return [
            row
            for row in (line.split() for line in whole_lines(log))
            if row[0] == stream
        ]

    async with Broker(server.url, namespace=namespace) as broker:
        worker = terminal.streams("worker", f"{app}:pipeline", env=environment)
        try:
            for round_ in (1, 2, 3):
                for stream in ("plain", "awaited"):
                    await Producer(broker, stream).publish_many(
                        Event("t", n) for n in range(16)
                    )
                for stream in ("plain", "awaited"):
                    await eventually(
                        lambda s=stream, n=16 * round_: len(done(s)) == n,
                        what=f"round {round_} of {stream}",
                    )
                if round_ < 3:
                    database.restart()
            for stream in ("plain", "awaited"):
                assert await DeadLetters(broker, stream, "g").count() == 0
            if age == "0":
                await eventually(
                    lambda: connections(database) <= 1,
                    what="connections to go, but one",
                )
            else:
                assert connections(database) > 0
        finally:
            worker.terminate()
            worker.wait(30)


async def test_connections_that_may_grow_old_are_closed_with_the_thread(
    server, namespace, database, tmp_path
) -> None:
    """Else each burst after a pause opens as many again, until the database has no more for anybody."""
    log, app = tmp_path / "log", tmp_path / "app.py"
    log.touch()
    app.write_text(APP + SHORT_LIVES)
    environment = os.environ | {
        "STREAMS_URL": server.url, "STREAMS_NAMESPACE": namespace, "STREAMS_LOG_LEVEL": "error",
        "TEST_LOG": str(log), "TEST_DATABASE": str(database.folder), "TEST_AGE": "none",
    }  # fmt: skip
    async with Broker(server.url, namespace=namespace) as broker:
        worker = terminal.streams("worker", f"{app}:pipeline", env=environment)
        try:
            for burst in (1, 2):
                await Producer(broker, "plain").publish_many(
                    Event("t", n) for n in range(16)
                )
                await eventually(
                    lambda n=16 * burst: len(whole_lines(log)) == n,
                    what=f"burst {burst}",
                )
                await eventually(
                    lambda: connections(database) == 0,
                    what=f"no connection after burst {burst}",
                )
        finally:
            worker.terminate()
            worker.wait(30)


@pytest.mark.parametrize("form", ["plain", "awaited"])
def test_a_database_of_tests_can_be_dropped_once_the_harness_is_closed(
    server, database, tmp_path, form
) -> None:
    app = tmp_path / "app.py"
    app.write_text(IN_TESTS)
    environment = os.environ | {
        "TEST_SERVER": server.url, "TEST_DATABASE": str(database.folder), "TEST_FORM": form,
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, str(app)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert ran.returncode == 0, ran.stderr


def test_what_is_no_django_program_has_no_part_in_it():
    assert (
        "django.conf" not in sys.modules
        or not sys.modules["django.conf"].settings.configured
    )
    from streams.middleware.django_connections import found

    assert found([]) == ()
