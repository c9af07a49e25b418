"""What every command owes its user: any encoding, whole lines in a pipe, sentences for what is unknown, TAB."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams import Reject, Settings
from streams.cli import main
from streams.cli.app import app
from streams.cli.exit_codes import Exit
from streams.sync import Pipeline
from streams.testing import harness
from tests import terminal

TYPE = "pedido.criação…" + "x" * 40
COMMANDS = (
    "ls", "ls orders", "workers --in-hand", "top", "doctor", "dead ls orders billing", "dead ls orders billing --json",
    "dead export orders billing", "show orders paid-1 --body", "why orders paid-1", "find paid-1", "audit orders",
    "groups ls orders", "limits ls orders billing", "keys ls orders billing", "config", "--help", "dead --help",
    "publish --help", "ls --help", "pause --help",
)  # fmt: skip


@pytest.fixture
def shop(server, namespace, monkeypatch):
    """A stream with a dead letter and an event that waits, whose texts no old terminal can write."""
    pipeline = Pipeline(server.url, settings=Settings(namespace=namespace))

    @pipeline.handler("orders", group="billing", types=[TYPE])
    def charge(event):
        raise Reject("o cartão foi recusado … ✓ 漢字")

    with harness(pipeline, url=server.url, namespace=namespace) as testing:
        pipeline.publish(
            "orders", {"nome": "João 漢字"}, type=TYPE, id="paid-1", tenant="açaí"
        )
        testing.drain()
        pipeline.publish("orders", {"nome": "João"}, type=TYPE, id="paid-2")
        monkeypatch.setenv("STREAMS_URL", server.url)
        monkeypatch.setenv("STREAMS_NAMESPACE", namespace)
        yield pipeline


def run(monkeypatch, words: str, encoding: str) -> tuple[int, str, str]:
    """A command as its process would run it, with standard streams of an encoding."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(sys, "argv", ["streams", *words.split()])
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGINT, before)
    out.flush()
    err.flush()
    return int(ended.value.code or 0), *(
        stream.buffer.getvalue().decode(encoding) for stream in (out, err)
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_no_command_fails_for_want_of_characters(shop, monkeypatch, encoding):
    for words in COMMANDS if encoding == "ascii" else COMMANDS[:7]:
        code, out, err = run(monkeypatch, words, encoding)
        assert code in (0, 1, 2, 3), (words, err)
        assert "Traceback" not in err + out, words
        if "--json" in words:
            [letter] = json.loads(out)["dead_letters"]
            assert (letter["type"], "漢字" in letter["errors"][-1]["message"]) == (
                TYPE,
                True,
            )
        if words.startswith("dead export"):
            assert json.loads(out)["type"] == TYPE


def test_a_pipe_gets_whole_lines(shop):
    told = CliRunner().invoke(app, ["dead", "ls", "orders", "billing"]).stdout
    assert TYPE in told
    assert told.count("…") == 2  # Those of the event's own.
    assert "orders" in CliRunner().invoke(app, ["ls"]).stdout


FULL = Path("/dev/full")


@pytest.mark.skipif(
    not FULL.exists(), reason="this system has no disk that is always full"
)
@pytest.mark.parametrize(
    "words",
    ["ls", "ls --json", "publish orders --type t --data 1", "config", "ls --help"],
)
def test_a_full_disk_is_one_sentence_and_an_exit_code(shop, words):
    with FULL.open("w") as full:
        process = terminal.streams(
            *words.split(), stdout=full, stderr=subprocess.PIPE, text=True
        )
        _, err = process.communicate(timeout=60)
    assert process.returncode == Exit.FAILED
    (line,) = err.splitlines()
    assert line.startswith(
        "streams: the output cannot be written: No space left on device"
    )


def test_an_unknown_reason_is_refused_with_those_that_there_are(shop, monkeypatch):
    for words in ("ls", "replay --yes", "discard --yes", "export"):
        verb, *rest = words.split()
        line = " ".join(["dead", verb, "orders", "billing", "--reason", "foo", *rest])
        code, out, err = run(monkeypatch, line, "utf-8")
        assert (code, out) == (Exit.USAGE, "")
        assert "reason 'foo': letters die by retries-used-up, stalled, rejected" in err
    code, out, _ = run(monkeypatch, "dead ls orders billing --reason rejected", "utf-8")
    assert (code, "rejected" in out) == (0, True)
    assert run(monkeypatch, "dead ls orders billing --reason stalled", "utf-8")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        "dashboard --port {port}",
        "whatsapp sandbox --port {port}",
        "whatsapp webhook --port {port}",
    ],
)
def test_a_port_that_is_taken_is_one_sentence_and_a_code_of_its_own(
    shop, monkeypatch, words
):
    monkeypatch.setenv("STREAMS_WHATSAPP_APP_SECRET", "s" * 32)
    monkeypatch.setenv("STREAMS_WHATSAPP_VERIFY_TOKEN", "v" * 32)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = run(monkeypatch, words.format(port=port), "utf-8")
    assert (code, out) == (Exit.TAKEN, "")
    assert (
        f"cannot be served on 127.0.0.1:{port}: Address already in use; give another --port"
        in err
    )
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("streams ls ord", {"orders"}),
        ("streams dead ls orders b", {"billing"}),
        ("streams show n", set()),
        ("streams publ", {"publish"}),
    ],
)
def test_a_shell_is_offered_commands_streams_and_groups(
    shop, monkeypatch, typed, offered
):
    words = typed.split()
    monkeypatch.setenv("_STREAMS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    code, out, err = run(monkeypatch, "", "utf-8")
    assert (code, set(out.split()), err) == (0, offered, "")


def test_a_shell_is_offered_nothing_by_a_server_that_would_have_to_be_started(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("STREAMS_URL", f"embedded://{tmp_path}/data")
    monkeypatch.setenv("_STREAMS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "streams ls o")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert run(monkeypatch, "", "utf-8") == (0, "\n", "")
    assert list(tmp_path.iterdir()) == []
