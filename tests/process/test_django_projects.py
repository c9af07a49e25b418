"""A worker of a Django project: handlers find their models, whoever has called ``django.setup()`` before, or nobody."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from streams import Broker, DeadLetters, Event, Producer
from tests import terminal
from tests.conftest import eventually
from tests.servers import clean_environment

ROOT = Path(__file__).parents[2]
SETTINGS = """
from pathlib import Path
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).parent / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
"""
MODELS = """
from django.db import models

class Order(models.Model):
    is_charged = models.BooleanField(default=False)
"""
WITHIN = """
from streams.sync import Pipeline
pipeline = Pipeline.from_env()

@pipeline.handler("orders", group="billing")
def charge(event):
    from shop.models import Order
    Order.objects.filter(pk=event.data).update(is_charged=True)
"""
ABOVE = """
from shop.models import Order
from streams.sync import Pipeline
pipeline = Pipeline.from_env()

@pipeline.handler("orders", group="billing")
def charge(event):
    Order.objects.filter(pk=event.data).update(is_charged=True)
"""
NAMES_ITS_SETTINGS = """
import os
import django.db
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
"""
RUNS = """
if __name__ == "__main__":
    pipeline.run()
"""
NAMED = {"DJANGO_SETTINGS_MODULE": "site_settings"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one application, and one order in its database."""
    (tmp_path / "site_settings.py").write_text(SETTINGS)
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "__init__.py").touch()
    (shop / "models.py").write_text(MODELS)
    with sqlite3.connect(tmp_path / "db.sqlite3") as database:
        database.execute(
            "CREATE TABLE shop_order (id integer PRIMARY KEY, is_charged bool NOT NULL)"
        )
        database.execute("INSERT INTO shop_order VALUES (1, 0)")
    database.close()
    return tmp_path


def charged(project: Path) -> bool:
    with sqlite3.connect(project / "db.sqlite3") as database:
        (row,) = database.execute("SELECT is_charged FROM shop_order").fetchall()
    database.close()
    return bool(row[0])


@pytest.mark.parametrize(
    ("module", "target", "named"),
    [
        pytest.param(WITHIN, "shop.events:pipeline", NAMED, id="models within"),
        pytest.param(ABOVE, "shop.events:pipeline", NAMED, id="models above"),
        pytest.param(ABOVE, "shop/events.py:pipeline", NAMED, id="by its path"),
        pytest.param(
            NAMES_ITS_SETTINGS + WITHIN,
            "shop.events:pipeline",
            {},
            id="settings named by the module",
        ),
        pytest.param(
            NAMES_ITS_SETTINGS + WITHIN + RUNS, "", {}, id="a program of its own"
        ),
    ],
)
async def test_a_handler_finds_its_models(
    server, namespace, project: Path, module, target, named
) -> None:
    (project / "shop" / "events.py").write_text(module)
    own = {
        "STREAMS_URL": server.url,
        "STREAMS_NAMESPACE": namespace,
        "PYTHONPATH": str(ROOT),
    }
    environment = clean_environment() | own | named
    with (project / "log").open("w") as log:
        how = {"env": environment, "cwd": project, "stderr": log}
        if target:
            worker = terminal.streams("worker", target, **how)
        else:
            worker = subprocess.Popen([sys.executable, "-m", "shop.events"], **how)
    try:
        async with Broker(server.url, namespace=namespace) as broker:
            await Producer(broker, "orders").publish(Event("order.created", 1))
            await eventually(lambda: charged(project), what="the order to be charged")
            assert await DeadLetters(broker, "orders", "billing").count() == 0
    finally:
        worker.terminate()
        worker.wait(30)
    assert "failed" not in (project / "log").read_text()


def test_settings_that_cannot_be_used_are_refused_in_one_sentence(
    server, project: Path
) -> None:
    (project / "shop" / "events.py").write_text(WITHIN)
    environment = clean_environment() | {
        "STREAMS_URL": server.url,
        "DJANGO_SETTINGS_MODULE": "no_settings",
    }
    ran = terminal.run(
        "worker", "shop.events:pipeline", env=environment, folder=project
    )
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert (
        "django.setup() failed with ModuleNotFoundError: No module named 'no_settings'"
        in line
    )
    assert "DJANGO_SETTINGS_MODULE=no_settings" in line
    assert "Traceback" not in line


def test_settings_of_a_project_mean_nothing_where_django_is_not_installed(
    server, tmp_path: Path
) -> None:
    """They may be there for another program; ``streams config`` loads the pipeline as a worker does."""
    (tmp_path / "events.py").write_text(
        "from streams import Pipeline\npipeline = Pipeline()\n"
    )
    hidden = (
        "import importlib.util as u; f = u.find_spec;"
        " u.find_spec = lambda n, *m: None if n == 'django' else f(n, *m)"
    )
    program = f"{hidden}; from streams.cli.loading import load; load('events:pipeline')"
    environment = clean_environment() | NAMED | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        check=True,
        timeout=60,
    )
