"""Programs of the pages, as a type checker reads them: what is written there passes mypy's strictest settings."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.docs.blocks import ROOT, blocks_of

PROGRAMS = {
    "README.md": ("shop.py",),
    "docs/quickstart.md": (),
    "docs/workers.md": (),
    "docs/middleware.md": (),
}
"""Page to the titles of its programs; none: every one that declares a handler."""


def programs():
    for page, titles in PROGRAMS.items():
        for block in blocks_of(ROOT / page):
            declares = "@pipeline.handler" in block.text and "import" in block.text
            if block.language == "python" and (
                block.title in titles if titles else declares and not block.not_run
            ):
                yield block


@pytest.mark.timeout(240)
def test_programs_of_the_pages_pass_a_strict_type_checker(tmp_path):
    """``event: Event`` needs no type argument, spans are taken, and nothing that a page calls is unknown.

    The blocking classes are made at import; a stub tells editors and type checkers of them. What they return are
    results and not coroutines.
    """
    made = {}
    for number, block in enumerate(programs()):
        made[f"page{number}.py"] = block
        (tmp_path / f"page{number}.py").write_text(block.text)
    assert len(made) > 3
    (tmp_path / "spans.py").write_text(SPANS)
    (tmp_path / "blocking.py").write_text(BLOCKING)
    paths = [str(path) for path in sorted(tmp_path.glob("*.py"))]
    # A process of its own: what it reads would stay in this one, 200 MB of it.
    checker = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--python-version",
            "3.11",
            "--no-incremental",
            *paths,
        ],
        capture_output=True,
        text=True,
    )
    assert checker.returncode in (0, 1), checker.stderr
    ours = [
        line
        for line in checker.stdout.splitlines()
        if "error:" in line and not line.endswith(FOREIGN)
    ]
    assert ours == [], [block.where for block in made.values()]


BLOCKING = """
from streams import Receipt
from streams.sync import Pipeline

pipeline = Pipeline()
receipt: Receipt = pipeline.publish("orders", 1, type="t", priority=5)
receipts: list[Receipt] = pipeline.publish_many("orders", [1], type="t")
for letter in pipeline.dead_letters("orders", "billing").iterate():
    text: str = letter.last_error
stored: int = pipeline.status().stream("orders").stored
"""
FOREIGN = ("[import-untyped]", "[import-not-found]")
"""What other packages' types do."""
SPANS = """
from datetime import UTC, datetime, timedelta

from streams import Event, Pipeline, Retry, Snooze, sync

pipeline = Pipeline.from_env()


@pipeline.handler("orders", group="billing", retry=Retry(delay=timedelta(seconds=1)), timeout=timedelta(minutes=1))
async def charge(event: Event) -> None:
    order: int = event.data["id"]
    if order:
        raise Snooze(timedelta(minutes=5))


# The same checker refuses what cannot be called with one event: an ignore that ignores nothing is an error, too.
@pipeline.handler("orders", group="nobody")  # type: ignore[type-var]
async def takes_none() -> None: ...


@pipeline.handler("orders", group="body")  # type: ignore[type-var]
async def takes_body(body: dict[str, int]) -> None: ...


async def main() -> None:
    hour = timedelta(hours=1)
    await pipeline.publish("orders", {"id": 1}, type="order.created", delay=hour, expires=datetime.now(UTC) + hour)
    await pipeline.publish_many("orders", [Event(type="order.created", data={"id": 1}, delay=datetime.now(UTC))])
    sync.Pipeline().publish("orders", {"id": 1}, type="order.created", delay=hour)
    typed: Event[dict[str, int]] = Event("order.created", {"id": 1})
    delay: float = Retry(delay=hour).delay
    print(typed.data["id"], delay)
"""
