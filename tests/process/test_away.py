"""Programs whose server is not there when they start, or whose password changes while they run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.health import LIVE, READY
from tests import terminal
from tests.process.test_health_process import told, wait_for
from tests.servers import (
    BINARIES,
    Server,
    clean_environment,
    free_port,
    wait_until,
    whole_lines,
)

AWAY, BACK = "the server is away", "the server is back"
SHOP = """
    import os
    from streams import Event, Pipeline

    pipeline = Pipeline.from_env()

    def handler(stream):
        @pipeline.handler(stream, group="work")
        async def handle(event: Event) -> None:
            with open("log", "a") as file:
                file.write(f"{stream} {event.id}\\n")

    for n in range(5):
        handler(f"s{n}")
"""


class Site:
    """A server that is not there yet, a folder with a pipeline of five groups, and programs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(BINARIES[0], aof=True, port=True)
        self.health = f"unix:{folder}/h"
        self._errors = 0
        (folder / "shop.py").write_text(textwrap.dedent(SHOP))

    @property
    def handled(self) -> list[str]:
        return whole_lines(self.folder / "log")

    @contextlib.contextmanager
    def program(self, *arguments: str, **env: str) -> Iterator[Program]:
        env = {"STREAMS_URL": self.server.url, **env}
        self._errors += 1
        file = self.folder / f"errors{self._errors}"
        with (
            file.open("wb") as errors,
            terminal.streams(
                *arguments,
                stdin=subprocess.DEVNULL,
                stderr=errors,
                cwd=self.folder,
                env=clean_environment() | env,
                process_group=0,
            ) as process,
        ):
            try:
                yield Program(process, file)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def worker(
        self, *arguments: str, **env: str
    ) -> contextlib.AbstractContextManager[Program]:
        return self.program(
            "worker", "shop:pipeline", "--health", self.health, *arguments, **env
        )

    def publish(self, stream: str, ident: str) -> None:
        """As a program of another language does."""
        with self.server.client() as client:
            client.xadd(
                f"streams:{{{stream}}}:0", {"type": "t", "id": ident, "data": "{}"}
            )

    def works(self, ident: str) -> None:
        """Each of the five groups handles an event."""
        for n in range(5):
            self.publish(f"s{n}", ident)
        wait_until(
            lambda: sum(ident in line for line in self.handled) == 5,
            what=f"{ident} to be handled five times",
        )


class Program:
    """A process, and what it says on standard error."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        self.process = process
        self._errors = errors

    @property
    def said(self) -> str:
        return self._errors.read_text()

    def lines(self, text: str) -> list[str]:
        return [line for line in self.said.splitlines() if text in line]

    def wait_said(self, text: str, count: int = 1) -> None:
        wait_until(lambda: len(self.lines(text)) >= count, what=f"{count} of {text!r}")

    def ends(self) -> int:
        return self.process.wait(30)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ends()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.server.close()


def set_password(site: Site, *passwords: str) -> None:
    """From now on the user has these passwords; whoever is connected must log in again."""
    with site.server.client() as client:
        rules = ("resetpass", *(f">{password}" for password in passwords))
        client.execute_command(
            "ACL", "SETUSER", "app", "on", "~*", "&*", "+@all", *rules
        )
        client.execute_command("CLIENT", "KILL", "USER", "app")


def url(site: Site, password: str) -> str:
    return f"redis://app:{password}@127.0.0.1:{site.server.port}/0"


# A server that is not there


def test_a_worker_waits_for_its_server_and_says_so_once_for_all_groups(
    site: Site,
) -> None:
    with site.worker() as worker:
        worker.wait_said(AWAY)
        wait_for(site.health, LIVE, ok=True)
        ready = told(site.health, READY)
        assert not ready.ok
        assert "cannot be reached" in ready.says
        site.server.start()
        wait_for(site.health, READY, ok=True)
        worker.wait_said(BACK)
        site.works("first")
        site.server.kill()
        worker.wait_said(AWAY, 2)
        wait_for(site.health, READY, ok=False)
        assert told(site.health, LIVE).ok
        site.server.start()
        wait_for(site.health, READY, ok=True)
        site.works("second")
        worker.wait_said(BACK, 2)
        assert worker.stop() == 0
        assert (len(worker.lines(AWAY)), len(worker.lines(BACK))) == (2, 2), worker.said
        assert all("seconds=" in line for line in worker.lines(BACK))
        assert all(
            f"127.0.0.1:{site.server.port}" in line
            for line in worker.lines(AWAY) + worker.lines(BACK)
        )


@pytest.mark.parametrize("more", [["--processes", "2"], ["--reload"]])
def test_so_do_the_processes_of_a_supervisor(site: Site, more: list[str]) -> None:
    with site.worker(*more) as worker:
        worker.wait_said(AWAY)
        wait_for(site.health, LIVE, ok=True)
        assert not told(site.health, READY).ok
        site.server.start()
        wait_for(site.health, READY, ok=True, seconds=20)
        site.works("first")
        assert not worker.lines("started again")
        assert worker.stop() == 0


def test_a_worker_that_waits_stops_in_order(site: Site) -> None:
    with site.worker() as worker:
        worker.wait_said(AWAY)
        assert worker.stop() == 0


@pytest.mark.parametrize("told_by", ["option", "variable"])
def test_a_worker_that_is_not_to_wait_ends(site: Site, told_by: str) -> None:
    arguments = ("--wait", "never") if told_by == "option" else ()
    env = {} if told_by == "option" else {"STREAMS_WAIT": "never"}
    with site.worker(*arguments, **env) as worker:
        assert worker.ends() == 4
        assert len(worker.lines("cannot be reached")) == 1
        assert "Traceback" not in worker.said


# A password that changes


def test_a_password_that_was_never_taken_ends_a_worker_and_says_where_to_look(
    site: Site,
) -> None:
    site.server.start()
    set_password(site, "right")
    with site.worker(STREAMS_URL=url(site, "wrong")) as worker:
        assert worker.ends() == 4
        (line,) = worker.lines("the worker ends")
        assert "look at both in the URL" in line
        assert "permission" not in line
        assert "wrong@" not in worker.said


def test_a_worker_that_may_wait_for_its_password(site: Site) -> None:
    site.server.start()
    set_password(site, "old")
    with site.worker("--wait", "always", STREAMS_URL=url(site, "new")) as worker:
        worker.wait_said(AWAY)
        set_password(site, "old", "new")
        wait_for(site.health, READY, ok=True)
        assert worker.stop() == 0


def test_a_worker_that_was_let_in_waits_when_its_password_is_refused(
    site: Site,
) -> None:
    site.server.start()
    set_password(site, "old")
    with site.worker(STREAMS_URL=url(site, "old")) as worker:
        wait_for(site.health, READY, ok=True)
        site.works("first")
        set_password(site, "new")
        worker.wait_said(AWAY)
        wait_for(site.health, READY, ok=False)
        assert told(site.health, LIVE).ok
        wait_until(
            lambda: "took these credentials before" in told(site.health, READY).says,
            what="the reason",
        )
        set_password(site, "old", "new")
        wait_for(site.health, READY, ok=True)
        site.works("second")
        assert worker.stop() == 0
        assert len(worker.lines(AWAY)) == 1


def test_a_worker_without_a_password_waits_when_one_is_asked_for(site: Site) -> None:
    site.server.start()
    with site.worker() as worker:
        wait_for(site.health, READY, ok=True)
        with site.server.client() as client:
            client.execute_command("CONFIG", "SET", "requirepass", "secret")
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            worker.wait_said(AWAY)
            wait_for(site.health, READY, ok=False)
            client.execute_command("CONFIG", "SET", "requirepass", "")
        wait_for(site.health, READY, ok=True)
        assert worker.stop() == 0


def test_a_process_that_is_started_again_during_a_rotation_waits(site: Site) -> None:
    site.server.start()
    set_password(site, "old")
    with site.worker("--processes", "2", STREAMS_URL=url(site, "old")) as worker:
        wait_for(site.health, READY, ok=True, seconds=20)
        set_password(site, "new")
        worker.wait_said(AWAY, 2)  # Each, before one of them is killed.
        started = worker.lines("process started")
        pid = int(started[0].partition("pid=")[2].split()[0])
        os.kill(pid, signal.SIGKILL)
        worker.wait_said("process started", 3)
        worker.wait_said(AWAY, 3)
        set_password(site, "old", "new")
        wait_for(site.health, READY, ok=True, seconds=20)
        assert worker.stop() == 0


def test_a_rotation_with_two_passwords_and_the_url_in_a_file_disturbs_nobody(
    site: Site, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    site.server.start()
    set_password(site, "old")
    file.write_text(url(site, "old"))
    with site.worker(STREAMS_URL="", STREAMS_URL_FILE=str(file)) as worker:
        wait_for(site.health, READY, ok=True)
        with site.server.client() as client:
            client.execute_command("ACL", "SETUSER", "app", ">new")
        file.write_text(url(site, "new") + "\n")
        set_password(site, "new")
        site.works("after")
        wait_for(site.health, READY, ok=True)
        assert worker.stop() == 0
        assert not worker.lines("refuses")


# What serves pages


def answer(port: int, path: str = "/") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}{path}", timeout=10
        ) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def the_dashboard(
    site: Site, port: int, **env: str
) -> contextlib.AbstractContextManager[Program]:
    return site.program("dashboard", "--port", str(port), **env)


def the_webhook(
    site: Site, port: int, **env: str
) -> contextlib.AbstractContextManager[Program]:
    env = {"STREAMS_WHATSAPP_WEBHOOK_SECRET": "s", **env}
    return site.program("whatsapp", "webhook", "--port", str(port), **env)


Serves = Callable[..., contextlib.AbstractContextManager[Program]]


def test_a_dashboard_without_a_server_shows_a_page_that_says_so(site: Site) -> None:
    port = free_port()
    with the_dashboard(site, port) as program:
        wait_until(lambda: answer(port)[0] == 503, what="the page that says so")
        assert "The server does not answer" in answer(port)[1]
        assert answer(port, "/health")[0] == 200
        assert answer(port, "/api/v1/streams")[0] == 503
        program.wait_said(AWAY)
        site.server.start()
        wait_until(lambda: answer(port)[0] == 200, what="the pages")
        program.wait_said(BACK)
        site.server.kill()
        wait_until(lambda: answer(port)[0] == 503, what="the page that says so")
        site.server.start()
        wait_until(lambda: answer(port)[0] == 200, what="the pages")
        program.wait_said(BACK, 2)
        assert "Traceback" not in program.said
        assert len(program.lines(AWAY)) == 2


def test_a_webhook_without_a_server_tells_the_provider_to_try_again(site: Site) -> None:
    port = free_port()

    def call() -> int:
        body = b'{"event": "connection.update", "instance": "one", "data": {"state": "open"}}'
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/evolution",
            body,
            {"X-Webhook-Secret": "s"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    with the_webhook(site, port, STREAMS_TIMEOUT="0.5") as program:
        wait_until(lambda: call() == 503, what="the answer that says so")
        program.wait_said(AWAY)
        site.server.start()
        wait_until(lambda: call() == 200, what="the call to be taken")
        program.wait_said(BACK)
        assert "Traceback" not in program.said
        assert len(program.lines(AWAY)) == 1


@pytest.mark.parametrize("serves", [the_dashboard, the_webhook])
@pytest.mark.parametrize("why", ["password", "never"])
def test_what_serves_ends_with_a_sentence(site: Site, serves: Serves, why: str) -> None:
    env = {"STREAMS_WAIT": "never"}
    if why == "password":
        site.server.start()
        set_password(site, "right")
        env = {"STREAMS_URL": url(site, "wrong")}
    with serves(site, free_port(), **env) as program:
        assert program.ends() == 4
        assert len(program.said.splitlines()) == 1, program.said
