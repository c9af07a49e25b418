"""``streams publish`` as a program: one event, lines of a pipe, and a stream that is full."""

from __future__ import annotations

import json
import signal

from tests.process.commands import _has
from tests.process.commands import cli as cli
from tests.process.commands import server as server
from tests.servers import wait_until


def test_publish_one_and_show_it(cli, server):
    args = (
        "publish",
        "orders",
        "--type",
        "order",
        "--data",
        '{"id": 7, "name": "Ada"}',
        "--priority",
        "7",
    )
    receipt = cli.json(*args, "--tenant", "+49 170 1234567", "--header", "region=eu")
    assert receipt["level"] == 5
    assert not receipt["duplicate"]
    streams = cli.json("ls")["streams"]
    assert [row["stream"] for row in streams] == ["orders"]
    assert streams[0]["stored"] == 1
    assert "orders" in cli("ls").stdout
    with server.client() as client:
        client.xgroup_create(
            f"{cli.env['STREAMS_NAMESPACE']}:{{orders}}:5", "billing", id="0"
        )
    (state,) = cli.json("show", "orders", receipt["entry_id"])["states"]
    assert state["state"] == "pending"
    assert "no worker" in state["why"]
    assert state["meta"] == {"tenant": "+******67", "region": "eu"}
    assert "body" not in state
    shown = cli("show", "orders", receipt["event_id"])
    assert "no worker" in shown.stdout
    assert "1234567" not in shown.stdout
    assert "Ada" not in shown.stdout
    assert "Ada" in cli("show", "orders", receipt["event_id"], "--body").stdout


def test_publish_duplicates_and_delays(cli):
    args = ("publish", "orders", "--type", "order", "--data", "1")
    assert not cli.json(*args, "--dedup-id", "a")["duplicate"]
    assert "duplicate" in cli(*args, "--dedup-id", "a").stdout
    assert "scheduled" in cli(*args, "--delay", "60").stdout
    assert cli.json("ls", "orders")["streams"][0]["scheduled"] == 1


def test_publish_refuses_what_cannot_be(cli):
    assert "--type" in cli.refused("publish", "orders", "--data", "1", code=2)
    assert "quote it" in cli.refused(
        "publish", "orders", "--type", "a", "--data", "{id: 1}", code=2
    )
    assert "--file" in cli.refused("publish", "orders", "--type", "a", code=2)
    assert "NAME=VALUE" in cli.refused(
        "publish", "orders", "--type", "a", "--data", "1", "--header", "x", code=2
    )
    assert "letters" in cli.refused(
        "publish", "no such name", "--type", "a", "--data", "1", code=2
    )
    assert "nothere" in cli.refused(
        "publish", "orders", "--file", "nothere.jsonl", code=2
    )


def test_publish_lines_from_stdin(cli):
    lines = [
        '{"type": "order", "data": {"id": 10}, "priority": 10, "key": "k", "headers": {"a": 1}}',
        '{"secret": 4915112345678',
        '{"specversion": "1.0", "id": "c1", "source": "/s", "type": "order", "data": {"id": 11}}',
        "",
        '{"data": {"id": 12}}',
        '["secret"]',
        '{"type": "order", "data": 1, "prioritty": 5}',
        '{"type": "order", "data": 1, "delay": "soon"}',
        '{"type": "order", "data": NaN}',
        '{"type": "order", "data": {"id": 13}}',
    ]
    done = cli(
        "publish",
        "orders",
        "--file",
        "-",
        "--receipts",
        "r.jsonl",
        "--json",
        stdin="\n".join(lines),
        code=1,
    )
    summary = json.loads(done.stdout)
    assert (summary["lines"], summary["published"], summary["refused"]) == (9, 3, 6)
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        f"line {n}" for n in (2, 5, 6, 7, 8, 9)
    ]
    assert "secret" not in done.stderr
    assert "49151" not in done.stderr
    assert "did you mean 'priority'" in done.stderr
    receipts = [
        json.loads(line) for line in (cli.folder / "r.jsonl").read_text().splitlines()
    ]
    assert [row["line"] for row in receipts] == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert receipts[2]["event_id"] == "c1"
    assert receipts[0]["level"] == 10


def test_publish_whole_lines_as_bodies_and_strict(cli):
    done = cli(
        "publish",
        "orders",
        "--file",
        "-",
        "--type",
        "order",
        "--tenant",
        "acme",
        stdin='{"id": 1}\n5\n',
    )
    assert "published 2 " in done.stdout
    strict = cli(
        "publish",
        "orders",
        "--file",
        "-",
        "--type",
        "order",
        "--strict",
        stdin="1\n{\n3\n",
        code=1,
    )
    assert "published 1 " in strict.stdout
    assert "--from-line 2" in strict.stderr


def test_a_slow_pipe_is_published_as_it_comes(cli):
    with cli.start("publish", "orders", "--file", "-", "--type", "order") as process:
        process.stdin.write("1\n")
        process.stdin.flush()
        wait_until(lambda: _has(cli), what="the first line on the stream")
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        assert process.stderr.read() == ""


def test_publish_resumes_where_a_full_stream_ended_it(cli):
    (cli.folder / "in.jsonl").write_text(
        "".join(f'{{"id": {n}}}\n' if n % 10 else "bad\n" for n in range(1, 101))
    )
    args = ("publish", "orders", "--file", "in.jsonl", "--type", "order")
    done = cli(*args, code=5, STREAMS_MAX_LEN="50")
    assert "50 events are surely stored; go on with --from-line 56" in done.stderr
    rest = cli.json(*args, "--from-line", "56", code=1)
    assert (rest["published"], rest["refused"]) == (40, 5)
    assert cli.json("ls")["streams"][0]["stored"] == 90
    part = cli.json(*args, "--from-line", "1", "--to-line", "9")
    assert part["published"] == 9
