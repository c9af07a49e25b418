"""Plays a page: does what a reader would do with its blocks, in order, in one empty folder.

* A ``python`` block without a title is a program: it is run and must end with 0. A ``text`` block right below it is its
  output, compared.
* A block with a title that is a file name is written to that file. Something further down must use it.
* In a ``console`` block, lines behind ``$`` are commands, the others are their output, compared (see ``output``). A
  command must end with 0. ``export`` and ``cd`` last until the end of the page.
* A ``console`` block whose title begins with "terminal" runs its last command until the end of the page, as a reader
  would in another window. A later block with the same title and no command shows what has appeared there since; its
  first line ``^C`` interrupts that command.
* ``localhost:6379`` is a real server of the page's own, port ``8750`` a free one.
* ``redis-cli`` and ``curl`` are small stand-ins for what pages use of them: not every machine has the real ones.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Sequence
from pathlib import Path

from tests.docs.blocks import COMMANDS, PROGRAMS, ROOT, Block
from tests.docs.output import Shown
from tests.docs.quick import CLIENT
from tests.servers import BINARIES, Server, clean_environment, free_port, wait_until

SECONDS = 60
_FILE = re.compile(r"[\w./-]*\.\w+|Procfile|\.env(?:\.\w+)?")
_EXTRAS = re.compile(r"\[([\w,-]+)\]")

REDIS_CLI = """\
import os, sys
import redis
client = redis.Redis(port=int(os.environ["PAGE_PORT"]), decode_responses=True, protocol=2)
def show(reply):
    for item in reply if isinstance(reply, list) else [reply]:
        show(item) if isinstance(item, list) else print("" if item is None else item)
client.response_callbacks.clear()
try:
    show(client.execute_command(*sys.argv[1:]))
except redis.RedisError as error:
    sys.exit(f"(error) {error}")
finally:
    client.close()
"""

CURL = """\
import argparse, sys, urllib.request
options = argparse.ArgumentParser()
options.add_argument("-s", action="store_true")
options.add_argument("-H", action="append", default=[])
options.add_argument("--json")
options.add_argument("url")
given = options.parse_args()
headers = dict(header.split(": ", 1) for header in given.H)
body = None
if given.json is not None:
    headers["Content-Type"] = headers["Accept"] = "application/json"
    body = given.json.encode()
with urllib.request.urlopen(urllib.request.Request(given.url, body, headers), timeout=10) as answer:
    sys.stdout.buffer.write(answer.read())
"""


class ExampleError(AssertionError):
    """A block of a page does not do what the page says."""

    def __init__(self, block: Block, what: str, output: str = "") -> None:
        super().__init__(
            f"{block.where}: {what}"
            + (f"\n{textwrap.indent(output, '  | ')}" if output else "")
        )


class _Terminal:
    """A window with a command that goes on."""

    def __init__(
        self, process: subprocess.Popen[bytes], output: Path, block: Block
    ) -> None:
        self.process, self.output, self.block = process, output, block
        self.seen = 0

    def expect(self, block: Block, expected: str) -> dict[str, str]:
        """Wait until the shown lines have come; returns the ids that came in place of the shown ones."""
        shown = Shown(expected)
        try:
            wait_until(lambda: self._found(shown), seconds=30, what="output")
        except AssertionError:
            came = "\n".join(self._text().splitlines()[self.seen :])
            raise ExampleError(
                block, f"expected\n{expected}\nafter what was shown, got", came
            ) from None
        return shown.ids

    def _text(self) -> str:
        return calm(self.output.read_text("utf-8"))

    def _found(self, shown: Shown) -> bool:
        end = shown.match(self._text(), after=self.seen, whole=False)
        self.seen = self.seen if end is None else end
        return end is not None

    def interrupt(self) -> None:
        """Ctrl-C, and wait for the end."""
        os.killpg(self.process.pid, signal.SIGINT)
        self._end()

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        self._end()

    def _end(self) -> None:
        if self.process.wait(20) not in (0, -signal.SIGTERM, -signal.SIGINT):
            raise ExampleError(
                self.block,
                f"ended with {self.process.returncode}",
                self.output.read_text("utf-8"),
            )


class Player:
    """One page in one folder.

    Args:
        blocks: the page's blocks, in order.
        quick: where commands are served that end by themselves; see ``quick``. None: they are started as ever.
    """

    def __init__(self, blocks: Sequence[Block], quick: Path | None = None) -> None:
        self._blocks = blocks
        # A short path: sockets are made below it.
        self._folder = Path(tempfile.mkdtemp(prefix="dx", dir="/tmp")).resolve()
        self._home = self._folder / "page"
        self._state = self._folder / "state"
        self._terminals: dict[str, _Terminal] = {}
        self._server: Server | None = None
        self._ids: dict[str, str] = {}
        self._port = free_port()
        self._quick = quick
        self._environment = self._set_up()

    def play(self) -> None:
        """Play every block.

        Raises:
            ExampleError: a block does not do what the page says.
        """
        try:
            for block in self._blocks:
                if block.not_run is None:
                    self._play(block)
            for terminal in self._terminals.values():
                terminal.close()
        finally:
            self._clean_up()

    def _set_up(self) -> dict[str, str]:
        programs = self._folder / "bin"
        programs.mkdir()
        self._home.mkdir()
        (self._folder / "redis_cli.py").write_text(REDIS_CLI)
        (self._folder / "curl.py").write_text(CURL)
        for name, arguments in (
            ("python", ""),
            ("python3", ""),
            ("streams", "-m streams"),
            ("pytest", "-m pytest -p no:cacheprovider"),
            ("flask", "-m flask"),
            ("redis-cli", str(self._folder / "redis_cli.py")),
            ("curl", str(self._folder / "curl.py")),
        ):
            file = programs / name
            soon = ""
            if name == "streams" and self._quick is not None:
                client = f"{sys.executable} -E -S {CLIENT} {self._quick}"
                soon = f'case "$PAGE_TERMINAL$1" in terminal*|worker|demo) ;; *) exec {client} "$@" ;; esac\n'
            file.write_text(
                f'#!/bin/sh\n{soon}exec {sys.executable} {arguments} "$@"\n'
            )
            file.chmod(0o755)
        # As in a terminal: whole lines. Without any buffer, lines that threads print at once would get mixed up.
        startup = self._folder / "startup"
        startup.mkdir()
        lines = "import sys\nsys.stdout.reconfigure(line_buffering=True)\n"
        (startup / "sitecustomize.py").write_text(lines)
        environment = clean_environment() | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": f"{startup}:{ROOT}",
            "XDG_DATA_HOME": str(self._home / ".data"),
            # as if installed; pytest loads it once
            "PYTEST_PLUGINS": "streams.testing.plugin",
            "PYTHONWARNINGS": "error::ResourceWarning",
            "COLUMNS": "110",
            "NO_COLOR": "1",
            "TERM": "dumb",
        }
        if any(
            "localhost:6379" in block.text or "redis-cli" in block.text
            for block in self._blocks
        ):
            self._server = Server(BINARIES[0], port=True).start()
            environment["PAGE_PORT"] = str(self._server.port)
        return environment

    def _clean_up(self) -> None:
        for terminal in self._terminals.values():
            if terminal.process.poll() is None:
                os.killpg(terminal.process.pid, signal.SIGKILL)
                terminal.process.wait(10)
        if self._server is not None:
            self._server.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _here(self, text: str) -> str:
        for shown, real in self._ids.items():
            text = text.replace(shown, real)
        return self._ports(text)

    def _ports(self, text: str) -> str:
        text = text.replace("8750", str(self._port))
        return (
            text
            if self._server is None
            else text.replace("localhost:6379", f"127.0.0.1:{self._server.port}")
        )

    def _play(self, block: Block) -> None:
        if _FILE.fullmatch(block.title):
            file = self._home / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._here(block.text), "utf-8")
        elif block.language in PROGRAMS:
            name = f"example_{block.line}.py"
            (self._home / name).write_text(self._here(block.text), "utf-8")
            self._run(block, f"python {name}", block.output)
        elif block.language in COMMANDS:
            self._play_console(block)

    def _play_console(self, block: Block) -> None:
        if not block.title.lower().startswith("terminal"):
            steps = steps_of(block)
            if not steps or steps[0][0] == "":
                raise ExampleError(block, "no command ('$ ...') begins this block")
            for command, expected in steps:
                self._run(block, command, expected)
            return
        *before, (command, expected) = steps_of(block)
        for earlier, shown in before:
            self._go_on(block, shown) if earlier == "" else self._run(
                block, earlier, shown
            )
        if command == "":
            self._go_on(block, expected)
        else:
            self._terminals[block.title] = opened = self._open(block, command)
            self._ids |= opened.expect(block, self._ports(expected))

    def _go_on(self, block: Block, expected: str) -> None:
        """See what a terminal shows since; a first line ``^C`` interrupts its command."""
        terminal = self._terminals.get(block.title)
        if terminal is None:
            raise ExampleError(
                block, "no command ('$ ...'), and no terminal of this title is open"
            )
        interrupted = expected.startswith("^C\n")
        if interrupted:
            terminal.interrupt()
        self._ids |= terminal.expect(block, self._ports(expected.removeprefix("^C\n")))
        if interrupted:
            del self._terminals[block.title]

    def _run(self, block: Block, command: str, expected: str) -> None:
        if checked_only(block, command):
            return
        if command.endswith("&"):
            self._terminals[f"{block.where} {command}"] = self._open(
                block, command.removesuffix("&")
            )
            return
        try:
            done = subprocess.run(
                self._shell(command),
                cwd=self._home,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            text = (error.output or b"").decode(errors="replace")
            raise ExampleError(
                block, f"{command!r} did not end in {SECONDS} s", text
            ) from None
        output = calm(done.stdout.decode())
        if done.returncode:
            raise ExampleError(
                block, f"{command!r} ended with {done.returncode}", output
            )
        if expected.strip():
            shown = Shown(self._ports(expected))
            if shown.match(output) is None:
                raise ExampleError(
                    block, f"{command!r} should show\n{expected}\nbut shows", output
                )
            self._ids |= shown.ids

    def _open(self, block: Block, command: str) -> _Terminal:
        output = self._folder / f"terminal-{len(self._terminals)}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                self._shell(f"exec {command}"),
                cwd=self._home,
                env=self._environment | {"PAGE_TERMINAL": "terminal"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return _Terminal(process, output, block)

    def _shell(self, command: str) -> list[str]:
        """The command in a shell that goes on where the one before it ended: folder and exported variables."""
        state = self._state
        return [
            "bash",
            "-c",
            f"[ -f {state} ] && . {state}\n{self._here(command)}\ncode=$?\n"
            f"{{ export -p; echo cd '\"'$PWD'\"'; }} >{state}\nexit $code",
        ]


def calm(output: str) -> str:
    """The output without what a worker says of a machine that stalls; that is no part of what a page shows."""
    return re.sub(r"(?m)^.*the event loop (?:is|was) blocked.*\n", "", output)


def steps_of(block: Block) -> list[tuple[str, str]]:
    """The commands of a block, each with the output shown below it; output above the first has the command ''."""
    if block.language != "console" and not block.text.startswith("$ "):
        return [(block.text.strip(), "")]
    steps: list[tuple[str, str]] = []
    lines = iter(block.text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                command = command[:-1] + next(lines).strip()
            steps.append((re.sub(r"\s+#\s.*$", "", command).strip(), ""))
        else:
            command, output = steps.pop() if steps else ("", "")
            steps.append((command, output + line + "\n"))
    return steps


def checked_only(block: Block, command: str) -> bool:
    """Whether a command sets a machine up: that is not done here, but it must name what there is."""
    words = command.split()
    if words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
            "optional-dependencies"
        ]
        for extra in ",".join(_EXTRAS.findall(command)).split(","):
            if (
                extra
                and ("streams[" in command or "'.[" in command)
                and extra not in extras
            ):
                raise ExampleError(block, f"there is no extra {extra!r}")
        return True
    if words[:1] == ["make"]:
        if not re.search(
            rf"^{re.escape(words[1])}:", (ROOT / "Makefile").read_text(), re.MULTILINE
        ):
            raise ExampleError(block, f"there is no 'make {words[1]}'")
        return True
    return False
