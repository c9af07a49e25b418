"""The command ``streams`` without its start: half a second of imports each time would be most of what pages cost.

One process has the command's modules loaded and forks for each command. The fork is the same program with a state of
its own; it gets the caller's arguments, folder, environment and streams. Programs of pages, and commands that go on
in a terminal, are started as ever.

    python -m tests.docs.quick SOCKET      serve
    python tests/docs/quick_client.py SOCKET ARGUMENT...      be a command
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.servers import clean_environment, wait_until

ROOT = Path(__file__).parents[2]
CLIENT = Path(__file__).with_name("quick_client.py")


@contextlib.contextmanager
def quick_commands(path: Path) -> Iterator[Path]:
    """Serve commands at a socket for as long as the block lasts."""
    environment = clean_environment() | {"PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.docs.quick", str(path)], env=environment, cwd=ROOT
    )
    try:
        wait_until(path.exists, seconds=30, what="the commands to be loaded")
        yield path
    finally:
        server.terminate()
        server.wait(10)


def serve(path: str) -> None:
    """Fork for each caller, until terminated."""
    import redis.asyncio

    import streams.cli.app  # noqa: F401 - what each command needs

    del redis
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path + ".new")
    listening.listen()
    Path(path + ".new").rename(path)
    while True:
        caller, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _be_the_command(caller)
        caller.close()


def _be_the_command(caller: socket.socket) -> None:
    code = 70
    try:
        message, files, _, _ = socket.recv_fds(caller, 1 << 20, 3)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        given = json.loads(message)
        os.chdir(given["folder"])
        os.environ.clear()
        os.environ.update(given["environment"])
        sys.argv = ["streams", *given["arguments"]]
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # As ``player`` says to the others.
        from streams.cli import main

        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        atexit._run_exitfuncs()
    finally:
        caller.send(bytes([code & 0xFF]))
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
