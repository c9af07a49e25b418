"""The command line as a program: its help, its refusals, its exit codes, and dead letters from end to end."""

from __future__ import annotations

import json
import os
import re
import textwrap

import pytest
from typer.testing import CliRunner

from streams.cli import celery_words
from streams.cli.app import app
from tests.process.commands import ROOT, SHOP, Cli, _has, group
from tests.process.commands import cli as cli
from tests.process.commands import server as server
from tests.servers import wait_until


def work(cli: Cli, until) -> str:
    """Run a worker until a condition holds, stop it in order, return its log."""
    (cli.folder / "shop.py").write_text(textwrap.dedent(SHOP))
    with cli.start(
        "worker", "shop:pipeline", "--concurrency", "5", "--log", "json"
    ) as worker:
        wait_until(until, seconds=15, what="the worker to do its work")
        worker.terminate()
        _, log = worker.communicate(timeout=15)
    assert worker.returncode == 0, log
    return log


def test_help_teaches(cli):
    top = cli.process("--help").stdout
    assert "Exit codes" in top
    assert "books do not balance" in top
    runner = CliRunner()
    commands = (
        "worker",
        "publish",
        "ls",
        "show",
        "pause",
        "resume",
        "cancel",
        "run-now",
        "find",
        "workers",
        "audit",
        "demo",
    )
    dead = ("ls", "show", "replay", "discard", "export", "edit", "replays")
    for command in (*commands, *(f"dead {name}" for name in dead)):
        text = runner.invoke(
            app, [*command.split(), "--help"], env={"COLUMNS": "100"}
        ).stdout
        assert text.count(f"  streams {command}") >= 2, command


def test_without_the_extra_one_sentence(cli):
    for name in ("typer", "rich"):
        (cli.folder / f"{name}.py").write_text(
            f"raise ModuleNotFoundError('no', name={name!r})"
        )
        done = cli.process("ls", code=2, PYTHONPATH=f"{cli.folder}{os.pathsep}{ROOT}")
        assert "pip install 'streams[cli]'" in done.stderr
        (cli.folder / f"{name}.py").unlink()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("purge", "purge: 'streams groups drop STREAM GROUP' gives up"),
        ("inspect active", "inspect: 'streams workers --in-hand' shows what runs"),
        (
            "-A shop worker -l info",
            "-A: the pipeline is the argument of the command: streams worker MODULE:NAME",
        ),
        ("worker shop:pipeline -c4", "-c: write --concurrency"),
        (
            "worker shop:pipeline --loglevel=info -B",
            "--loglevel: write --log-level\nstreams: -B: every worker brings",
        ),
    ],
)
def test_what_users_of_celery_type_is_told_what_it_is_here(cli, typed, said):
    assert f"streams: {said}" in cli(*typed.split(), code=2).stderr


def test_a_refusal_without_words_of_celery_has_no_hint(cli):
    for typed in ("ls purge --nonsense", "config --nonsense"):
        assert "streams: " not in cli(*typed.split(), code=2).stderr


def test_every_command_that_is_named_instead_is_there():
    known = {info.name for info in app.registered_commands} | {
        info.name for info in app.registered_groups
    }
    for line in (*celery_words.COMMANDS.values(), *celery_words.OPTIONS.values()):
        assert set(re.findall(r"\bstreams ([a-z-]+)", line)) <= known, line
    assert not known & celery_words.COMMANDS.keys(), "what is a command needs no hint"


def test_spans_are_read_alike_by_every_option(cli):
    args = ("publish", "orders", "--type", "t", "--data", "1")
    assert cli(*args, "--delay", "5m").stdout.endswith("in 300 s\n")
    assert cli(*args, "--delay", "1.5").stdout.endswith("in 1.5 s\n")
    assert "in 3600 s" in cli(*args, "--delay", "1h", "--expires", "1d12h").stdout
    for given, said in {
        "5x": "a span is a number of seconds",
        "40000d": "give a span of 0 to",
    }.items():
        assert said in cli(*args, "--delay", given, code=2).stderr
    assert (
        "0.3 to 86400"
        in cli("worker", "shop:pipeline", "--lease", "100ms", code=2).stderr
    )
    assert cli(
        "health", "--within", "500ms", "--address", "9", code=1
    ).stdout.startswith("nobody answers")


def test_dead_letters_from_end_to_end(cli):
    bodies = '{"id": 1}\n{"id": 2}\n{"id": 3}\n'
    cli(
        "publish",
        "orders",
        "--file",
        "-",
        "--type",
        "order",
        "--tenant",
        "acme",
        stdin=bodies,
    )
    cli("publish", "orders", "--type", "unknown", "--data", '{"id": 4}')
    where = ("orders", "billing")
    log = work(cli, lambda: _has(cli) and group_dead(cli) == 3)
    assert all(json.loads(line) for line in log.splitlines())
    assert "1234567" not in log
    listed = cli.json("dead", "ls", *where)
    assert listed["total"] == 3
    by_reason = {letter["reason"]: letter for letter in listed["dead_letters"]}
    assert set(by_reason) == {"rejected", "retries-used-up", "no-handler"}
    table = cli("dead", "ls", *where).stdout
    assert "1234567" not in table
    assert "******67" in table
    assert (
        len(
            cli.json("dead", "ls", *where, "--error", "TIMEOUT", "--since", "1h")[
                "dead_letters"
            ]
        )
        == 1
    )
    assert cli.json("dead", "ls", *where, "--until", "1h")["dead_letters"] == []
    first = cli.json("dead", "ls", *where, "--limit", "1")
    assert (
        cli.json("dead", "ls", *where, "--after", first["next"])["dead_letters"]
        == listed["dead_letters"][1:]
    )

    tried = by_reason["retries-used-up"]["id"]
    assert cli.json("dead", "show", *where, tried)["failures"] == 2
    assert '"id"' not in cli("dead", "show", *where, tried).stdout
    assert '{"id": 2}' in cli("dead", "show", *where, tried, "--body").stdout.replace(
        '{"id":2}', '{"id": 2}'
    )
    (state,) = cli.json("show", "orders", by_reason["rejected"]["event_id"])["states"]
    assert (state["state"], state["dead_letter"]) == (
        "dead",
        by_reason["rejected"]["id"],
    )

    assert "--yes" in cli.refused("dead", "replay", *where, "--all", code=2)
    assert "one of the three" in cli.refused("dead", "replay", *where, code=2)
    assert cli.json("dead", "replay", *where, "--all", "--dry-run") == {
        "matched": 3,
        "replayed": 0,
        "dry_run": True,
    }
    (cli.folder / "mended").touch()
    assert cli.json("dead", "replay", *where, tried)["replayed"] == 1
    assert (
        cli.json(
            "dead", "replay", *where, "--reason", "rejected", "--rate", "100", "--yes"
        )["replayed"]
        == 1
    )
    work(
        cli,
        lambda: (
            group(cli)["dead"] == 1
            and sum(row["waiting"] for row in group(cli)["levels"]) == 0
        ),
    )
    assert cli.json("dead", "ls", *where)["total"] == 1

    cli("dead", "export", *where, "--output", "dead.jsonl")
    exported = [
        json.loads(line)
        for line in (cli.folder / "dead.jsonl").read_text().splitlines()
    ]
    assert ["data", '{"id":4}'] in exported[0]["fields"]
    assert (cli.folder / "dead.jsonl").stat().st_mode & 0o777 == 0o600
    assert json.loads(cli("dead", "export", *where).stdout) == exported[0]
    assert (
        "would discard 1" in cli("dead", "discard", *where, "--all", "--dry-run").stdout
    )
    assert (
        cli.json("dead", "discard", *where, "--reason", "no-handler", "--yes")[
            "discarded"
        ]
        == 1
    )
    assert cli.json("dead", "ls", *where)["total"] == 0


def group_dead(cli: Cli) -> int:
    groups = cli.json("ls", "orders")["streams"][0]["groups"]
    return groups[0]["dead"] if groups else -1


def test_what_is_not_there(cli):
    assert "no stream 'nope'" in cli.refused("ls", "nope", code=3)
    assert "no stream 'nope'" in cli.refused("dead", "ls", "nope", "g", code=3)
    cli("publish", "orders", "--type", "a", "--data", "1")
    assert "no group 'nope'" in cli.refused("dead", "ls", "orders", "nope", code=3)
    assert "no group 'nope'" in cli.refused(
        "show", "orders", "1-0", "--group", "nope", code=3
    )
    assert "no trace" in cli.refused("show", "orders", "never-published", code=3)
    assert "7d" in cli.refused(
        "dead", "ls", "orders", "g", "--since", "yesterday", code=2
    )


def test_a_server_that_is_away_and_its_password(cli):
    url = "redis://ada:tops3cret@127.0.0.1:1/0"
    for command in (
        ("ls",),
        ("dead", "ls", "orders", "g"),
        ("publish", "orders", "--type", "a", "--data", "1"),
    ):
        sentence = cli.refused(
            *command, "--url", url, code=4, process=command == ("ls",)
        )
        assert "127.0.0.1:1" in sentence
        assert "tops3cret" not in sentence
    (cli.folder / "shop.py").write_text(textwrap.dedent(SHOP))
    # It would wait for the server.
    sentence = cli.refused(
        "worker", "shop:pipeline", "--url", url, "--wait", "never", code=4, process=True
    )
    assert "127.0.0.1:1" in sentence
    assert "tops3cret" not in sentence


def test_no_server_at_all_and_malformed_settings(cli):
    assert "which server" in cli.refused("ls", code=2, STREAMS_URL="")
    assert "which server" in cli.refused(
        "publish", "s", "--type=t", "--data=1", "--url=", code=2, STREAMS_URL=""
    )
    assert "a server of this command alone" in cli.refused(
        "ls", "--url", "memory://", code=2
    )
    assert "STREAMS_LEASE" in cli.refused("ls", code=2, STREAMS_LEASE="long")
    assert "scheme" in cli.refused("ls", "--url", "http://x", code=2)


def test_wrong_credentials(cli, server):
    with server.client() as client:
        client.acl_setuser(
            "eve", enabled=True, passwords=["+right"], keys=["*"], commands=["+ping"]
        )
    try:
        for password in ("wr0ng", "right"):
            url = server.url.replace("unix://", f"unix://eve:{password}@")
            sentence = cli.refused("ls", "--url", url, code=4)
            assert password not in sentence
    finally:
        with server.client() as client:
            client.acl_deluser("eve")


def test_a_closed_pipe_is_quiet(cli):
    cli("publish", "orders", "--file", "-", "--type", "order", stdin="1\n" * 50)
    with cli.start("ls", "--json") as process:
        process.stdout.close()
        process.wait(10)
        assert process.stderr.read() == ""
