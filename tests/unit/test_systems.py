"""A system without forks, locks of files and POSIX signals, as Windows is one: publishing works, the rest says so.

Simulated: what such a system lacks is hidden in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.servers import clean_environment

pytestmark = pytest.mark.in_turn

HIDDEN = """
    import asyncio, os, signal, sys

    for name in ("fcntl", "pwd", "grp", "resource", "termios", "tty", "pty"):
        sys.modules[name] = None
    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name in ("fcntl", "termios", "tty"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    for name in ("fcntl", "termios", "tty"):
        del sys.modules[name]
    sys.meta_path.insert(0, Absent())
    for name in ("register_at_fork", "fork", "geteuid", "getuid", "getppid", "killpg", "setsid"):
        if hasattr(os, name):
            delattr(os, name)
    for name in ("SIGHUP", "SIGKILL", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGWINCH", "SIGCONT", "pthread_sigmask"):
        delattr(signal, name)

    def unsupported(self, *_):
        raise NotImplementedError

    asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler = unsupported
"""


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", textwrap.dedent(HIDDEN) + textwrap.dedent(program)]
    env = clean_environment() | environment
    return subprocess.run(words, capture_output=True, text=True, env=env, timeout=60)


def test_publishing_works_in_both_forms_and_a_worker_ends_in_order(server, namespace):
    done = run(
        """
        import streams, streams.sync
        from streams import Event, Settings

        settings = Settings(namespace=os.environ["NS"])
        streams.sync.Pipeline(os.environ["AT"], settings=settings).publish("orders", 1, type="t")
        pipeline = streams.Pipeline(os.environ["AT"], settings=settings)

        @pipeline.handler("orders", group="billing")
        async def work(event: Event) -> None:
            print("handled", event.data)
            if event.data == 2:
                pipeline.stop()

        async def main():
            async with pipeline:
                await pipeline.publish("orders", 2, type="t")
                await pipeline.run()

        asyncio.run(main())
        """,
        AT=server.url,
        NS=namespace,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "handled 1\nhandled 2\n"


def test_what_needs_another_system_says_so_in_one_sentence(server):
    done = run(
        """
        import streams.sync
        try:
            streams.sync.Pipeline().publish("orders", 1, type="t")
        except streams.ConfigurationError as error:
            print(error)
        from streams.cli import main
        sys.argv = ["streams", "publish", "orders", "--type", "t", "--data", "1"]
        main()
        """,
        STREAMS_URL="embedded://data",
    )
    sentence = "the embedded server runs on Linux and macOS only: here, give the URL of a server"
    assert sentence in done.stdout
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
