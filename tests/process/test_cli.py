"""The command line as its users meet it: real processes, real pipes, real exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from streams import ConfigurationError, Pipeline
from streams.cli import celery_words, main
from streams.cli.app import app
from streams.cli.loading import load
from tests import terminal
from tests.servers import BINARIES, Server, clean_environment, wait_until

ROOT = Path(__file__).parents[2]
Done = subprocess.CompletedProcess[str]

SHOP = """
    import os
    from streams import Event, Pipeline, Reject, Retry

    pipeline = Pipeline.from_env()
    nothing = 5

    @pipeline.handler("orders", group="billing", types=["order"], retry=Retry(max_retries=1, delay=0.05))
    async def charge(event: Event) -> None:
        if os.path.exists("mended"):
            return
        if event.data["id"] == 1:
            raise Reject("call +49 170 1234567 about it")
        if event.data["id"] == 2:
            raise ValueError("timeout at +49 170 1234567")
"""


class Cli:
    """The command line against one server and namespace.

    Calling it runs the program's ``main`` inside the test process, which saves half a second of imports per command;
    ``process`` runs ``python -m streams``, ``start`` forks. All of them see the same environment and folder.
    """

    def __init__(self, server: Server, namespace: str, folder: Path) -> None:
        self.folder = folder
        self.env = clean_environment() | {
            "PYTHONPATH": str(ROOT),
            "STREAMS_URL": server.url,
            "STREAMS_NAMESPACE": namespace,
            "COLUMNS": "100",
            "USER": "ada",
        }

    def __call__(
        self, *arguments: str, code: int = 0, stdin: str = "", **env: str
    ) -> Done:
        streams = [
            io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8")
            for text in (stdin, "", "")
        ]
        before = signal.getsignal(signal.SIGINT)
        with (
            patch.dict(os.environ, self.env | env, clear=True),
            patch.multiple(
                sys,
                argv=["streams", *arguments],
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
            ),
            contextlib.chdir(self.folder),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        signal.signal(signal.SIGINT, before)
        out, err = (
            stream.buffer.getvalue().decode()
            for stream in streams[1:]
            if stream.flush() is None
        )
        return self._checked(Done(list(arguments), ended.value.code, out, err), code)

    def process(self, *arguments: str, code: int = 0, **env: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "streams", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.env | env,
            timeout=60,
        )
        return self._checked(done, code)

    @staticmethod
    def _checked(done: Done, code: int) -> Done:
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *arguments: str, **keywords):
        return json.loads(self(*arguments, "--json", **keywords).stdout)

    def refused(
        self, *arguments: str, code: int, process: bool = False, **keywords
    ) -> str:
        """The one sentence with which a command fails."""
        done = (self.process if process else self)(*arguments, code=code, **keywords)
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    @contextlib.contextmanager
    def start(self, *arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
        with terminal.streams(
            *arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.env | env,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server is enough here: what differs between servers ends in the broker, and is tested there."""
    running = Server(BINARIES[0]).start()
    yield running
    running.close()


@pytest.fixture
def cli(server, namespace, tmp_path) -> Cli:
    return Cli(server, namespace, tmp_path)


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


def group(cli: Cli) -> dict:
    return cli.json("ls", "orders")["streams"][0]["groups"][0]


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


def _has(cli: Cli) -> bool:
    return bool(cli.json("ls")["streams"])


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


def test_a_closed_pipe_is_quiet(cli):
    cli("publish", "orders", "--file", "-", "--type", "order", stdin="1\n" * 50)
    with cli.start("ls", "--json") as process:
        process.stdout.close()
        process.wait(10)
        assert process.stderr.read() == ""
