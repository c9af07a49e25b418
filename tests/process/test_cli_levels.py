"""``streams worker --levels``: pods that take only some levels."""

from __future__ import annotations

import json

from streams.broker.keys import Keys
from tests.process.commands import cli, server  # noqa: F401 - fixtures
from tests.servers import wait_until

SHOP = """
from pathlib import Path

from streams import Event, Pipeline

pipeline = Pipeline.from_env()


@pipeline.handler("orders", group="billing")
async def charge(event: Event) -> None:
    with Path("done").open("a") as file:
        file.write(f"{event.priority}\\n")
"""


def test_workers_take_the_levels_they_are_given_and_leave_the_others(cli, server):  # noqa: F811
    (cli.folder / "shop.py").write_text(SHOP)
    done = cli.folder / "done"
    done.touch()
    for priority in ("0", "5", "10") * 3:
        cli(
            "publish",
            "orders",
            "--type",
            "order",
            "--data",
            "1",
            "--priority",
            priority,
        )
    keys = Keys("orders", cli.env["STREAMS_NAMESPACE"])

    def started() -> list[str]:
        return sorted(done.read_text().split())

    with cli.start(
        "worker", "shop:pipeline", "--levels", "5, 10", "--log", "json"
    ) as high:
        wait_until(lambda: len(started()) == 6, seconds=15, what="the high levels")
        with server.client() as client:
            assert client.xlen(keys.level(0)) == 3
            # The group is there, so another worker misses nothing and the backlog is seen.
            assert client.xinfo_groups(keys.level(0))[0]["name"] == b"billing"
        with cli.start("worker", "shop:pipeline", STREAMS_SERVE_LEVELS="0") as low:
            wait_until(lambda: len(started()) == 9, seconds=15, what="the low level")
            high.terminate()
            assert high.wait(15) == 0
            cli(
                "publish",
                "orders",
                "--type",
                "order",
                "--data",
                "1",
                "--priority",
                "10",
            )
            cli(
                "publish", "orders", "--type", "order", "--data", "1", "--priority", "0"
            )
            wait_until(
                lambda: len(started()) == 10,
                seconds=15,
                what="one more of the low level",
            )
            low.terminate()
            assert low.wait(15) == 0
        log = [json.loads(line) for line in high.stderr.read().splitlines()]
    assert started() == ["0"] * 4 + ["10"] * 3 + ["5"] * 3
    assert (
        next(line for line in log if line["message"] == "started")["levels"] == "5,10"
    )


def test_levels_that_no_stream_has_are_refused(cli, server):  # noqa: F811
    (cli.folder / "shop.py").write_text(SHOP)
    assert "which are 0,1,5,10" in cli.refused(
        "worker", "shop:pipeline", "--levels", "5,7", code=2, process=True
    )
    assert "commas between" in cli.refused(
        "worker", "shop:pipeline", "--levels", "high", code=2, process=True
    )
