"""``streams config``: what it shows is what ``Settings`` reads and what the page says, without secrets."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from streams.cli.app import app
from streams.cli.config import shown
from streams.errors import ConfigurationError
from streams.settings import Settings
from tests.unit.test_settings import MALFORMED, UNITS, rows

CANARY = "canary-7f3a"
SHOP = """
from streams import Levels, Pipeline, Settings

settings = Settings(lease=60.0, levels=Levels([0, 9]))
own = Pipeline("redis://ada:canary-7f3a@shop:6379/1?client_name=canary-7f3a", settings=settings)
environment = Pipeline.from_env()

@own.handler("orders", group="billing", concurrency=5)
async def charge(event): ...
"""


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """What the command imports when it first runs stays: ``config`` takes back what a run imports."""
    for arguments in (["config"], ["config", "--json"]):
        CliRunner().invoke(app, arguments)


def config(*arguments: str, code: int = 0, **environ: str):
    with patch.dict(sys.modules), patch.object(sys, "path", sys.path[:]):
        done = CliRunner().invoke(
            app, ["config", *arguments], env={"COLUMNS": "200", **environ}
        )
    if isinstance(done.exception, ConfigurationError):
        raise done.exception
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    assert CANARY not in done.output
    return done


def as_json(*arguments: str, **keywords):
    return json.loads(config("--json", *arguments, **keywords).stdout)


def by_name(*arguments: str, **keywords) -> dict:
    return {row["name"]: row for row in as_json(*arguments, **keywords)["settings"]}


def test_every_setting_with_the_unit_and_default_of_the_page():
    found, page = by_name(), rows()
    assert list(found) == list(page) == [field.name for field in fields(Settings)]
    for name, row in found.items():
        assert row["unit"] == page[name]["unit"].strip() == UNITS[name]
        assert shown(name, getattr(Settings(), name)) == page[name][
            "default"
        ].strip().strip("`")
        assert (row["source"], row["variable"], row["error"]) == ("default", None, None)
        assert row["value"] == row["default"]
    table = config().stdout
    for name in found:
        assert f"\n{name} " in table


def test_each_source_is_named(tmp_path):
    (tmp_path / ".env").write_text(
        "STREAMS_LEASE=9\nSTREAMS_CONCURRENCY=9\nSTREAMS_TIMEOUT=9\n"
    )
    (tmp_path / ".env.local").write_text("STREAMS_CONCURRENCY=8\nSTREAMS_TIMEOUT=8\n")
    found = by_name(STREAMS_TIMEOUT="7", REDIS_URL="redis://h")
    assert {
        name: (row["value"], row["source"], row["variable"])
        for name, row in found.items()
        if row["variable"]
    } == {
        "url": ("redis://h", "environment", "REDIS_URL"),
        "lease": (9.0, ".env", "STREAMS_LEASE"),
        "concurrency": (8, ".env.local", "STREAMS_CONCURRENCY"),
        "timeout": (7.0, "environment", "STREAMS_TIMEOUT"),
    }
    table = config(STREAMS_TIMEOUT="7").stdout
    assert "STREAMS_TIMEOUT in the environment" in table
    assert "STREAMS_LEASE in .env\n" in "".join(
        line.rstrip() + "\n" for line in table.splitlines()
    )


@pytest.mark.parametrize(
    ("environ", "url", "variable"),
    [
        ({"USE_REDIS": "yes"}, "redis://localhost:6379/0", "USE_REDIS"),
        ({"USE_REDIS": "no", "REDIS_URL": "redis://h"}, None, "USE_REDIS"),
        ({"USE_REDIS": "yes", "REDIS_URL": "redis://h"}, "redis://h", "REDIS_URL"),
        (
            {"STREAMS_URL": f"redis://ada:{CANARY}@h/0"},
            "redis://***@h/0",
            "STREAMS_URL",
        ),
    ],
)
def test_which_variable_names_the_server(environ, url, variable):
    row = by_name(**environ)["url"]
    assert (row["value"], row["variable"]) == (url, variable)


def test_what_a_pipeline_sets_in_its_code(tmp_path):
    (tmp_path / "shop.py").write_text(SHOP)
    document = as_json("shop.py:own", STREAMS_LEASE="9", STREAMS_TIMEOUT="7")
    found = {row["name"]: row for row in document["settings"]}
    assert {name for name, row in found.items() if row["source"] == "pipeline"} == {
        "url",
        "lease",
        "levels",
        "timeout",
    }
    assert found["url"]["value"] == "redis://***@shop:6379/1?***"
    assert (found["lease"]["value"], found["levels"]["value"]) == (60.0, [0, 9])
    assert found["timeout"]["value"] == 5.0, (
        "this pipeline does not read the environment"
    )
    assert document["groups"] == [
        {"stream": "orders", "group": "billing", "concurrency": 5, "lease": 60.0}
    ]
    table = config("shop.py:own", STREAMS_LEASE="9").stdout
    assert "shop.py:own, not STREAMS_LEASE" in table
    assert "billing" in table
    assert (
        by_name("shop.py:environment", STREAMS_LEASE="9")["lease"]["source"]
        == "environment"
    )


@pytest.mark.parametrize("name", sorted(MALFORMED))
def test_a_malformed_value_is_shown_with_its_error(name, tmp_path):
    (tmp_path / "shop.py").write_text(SHOP)
    variable = f"STREAMS_{name.upper()}"
    text = MALFORMED[name][1]
    done = config("--json", "shop.py:environment", code=2, **{variable: text})
    row = next(
        row for row in json.loads(done.stdout)["settings"] if row["name"] == name
    )
    assert row["value"] is None
    assert row["error"].startswith(variable)
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env({variable: text})
    assert str(refused.value) == row["error"]
    assert done.stderr == f"streams: {row['error']}\n"
    assert row["error"] in config(code=2, **{variable: text}).stderr


def test_several_errors_at_once_and_no_secret_in_them():
    done = config(
        code=2,
        STREAMS_LEASE=f"redis://{CANARY}",
        STREAMS_URL=f"ftp://{CANARY}@h",
        USE_REDIS="perhaps",
    )
    assert [line.split()[1] for line in done.stderr.splitlines()] == [
        "STREAMS_URL",
        "STREAMS_LEASE",
    ]
    assert "use one of redis://" in done.stderr
    assert "USE_REDIS='perhaps'" in config(code=2, USE_REDIS="perhaps").stderr


def test_a_slip_of_the_pen_is_pointed_out():
    done = config(STREAMS_LEAS="9", STREAMS_SERVER_BINARY="/x")
    assert (
        done.stderr
        == "streams: STREAMS_LEAS is not a setting; did you mean STREAMS_LEASE?\n"
    )
    assert as_json(STREAMS_LEAS="9")["unknown"] == ["STREAMS_LEAS"]


def test_a_target_that_cannot_be_loaded():
    with pytest.raises(ConfigurationError, match="no module 'nope'"):
        config("nope:pipeline")
