"""Workers of several processes, and workers that reload: what dies is started again, what stops stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.cli.exit_codes import Exit
from streams.worker.service import EXIT_FORCED
from streams.worker.supervisor import EXIT_CRASHING, Supervisor, SupervisorOptions
from tests import terminal
from tests.conftest import eventually
from tests.process.commands import Cli
from tests.servers import BINARIES, Server, wait_until, whole_lines

# What the supervisor decides: with stand-ins for workers, which start ten times faster.

STAND_IN = """
import os, signal, sys, time
line, name = os.environ["STREAMS_LIFELINE"].split(":")
def say(word): os.write(int(line), b'{"word": "%s"}\\n' % word.encode())
def note(text):
    with open("notes", "a") as file: file.write(f"{name} {text}\\n")
def times(): return open("notes").read().count(f"{name} start")
note("start")
"""


def notes() -> list[str]:
    return whole_lines(Path("notes"))


def supervisor(code: str, processes: int = 1, first_wait: float = 0.0001) -> Supervisor:
    command = [sys.executable, "-S", "-c", STAND_IN + textwrap.dedent(code)]
    return Supervisor(SupervisorOptions(command, processes, first_wait=first_wait))


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("os._exit(3)", EXIT_CRASHING),
        ("os.kill(os.getpid(), signal.SIGKILL)", EXIT_CRASHING),
        ("say('unreachable'); sys.exit(4)", 4),
        ("say('ready'); say('unreachable'); sys.exit(4)", 4),
    ],
)
async def test_a_process_that_never_begins_ends_the_worker(code, verdict):
    assert await supervisor(code).run() == verdict
    assert notes() == ["1 start"] * 5


async def test_what_cannot_be_mended_by_starting_again_ends_the_worker_at_once():
    # The other one is killed as soon as this one has ended, and may not have come to its note by then.
    code = """
    say('ready'); say('hopeless')
    while name == '1' or '1 start' not in open('notes').read(): time.sleep(0.01)
    sys.exit(2)
    """
    assert await supervisor(code, 2).run() == 2
    assert sorted(notes()) == ["1 start", "2 start"]


async def test_a_command_that_cannot_be_run():
    assert (
        await Supervisor(SupervisorOptions(["/nowhere/python"], first_wait=0.001)).run()
        == EXIT_CRASHING
    )


def test_exit_codes_are_those_of_the_command_line():
    assert (EXIT_FORCED, EXIT_CRASHING) == (Exit.FORCED, Exit.CRASHING)


async def test_a_process_that_dies_at_work_is_started_again_and_again():
    assert (
        await supervisor("say('ready'); sys.exit(1 if times() < 9 else 0)", 2).run()
        == 0
    )
    assert sorted(notes()) == ["1 start"] * 9 + ["2 start"] * 9


async def test_a_start_that_works_ends_the_series_of_those_that_do_not():
    code = "times() % 4 == 0 and say('ready'); sys.exit(1 if times() < 12 else 0)"
    assert await supervisor(code).run() == 0
    assert len(notes()) == 12


async def test_a_process_that_ends_by_its_own_wish_stays_away():
    running = supervisor("say('ready'); name == '1' and sys.exit(0); time.sleep(60)", 2)
    task = asyncio.create_task(running.run())
    await eventually(lambda: len(notes()) == 2)
    await asyncio.sleep(0.2)
    assert not task.done()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 0
    assert len(notes()) == 2


HEARS = """
signal.signal(signal.SIGTERM, lambda *_: note("SIGTERM"))
signal.signal(signal.SIGINT, lambda *_: note("SIGINT"))
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # As a worker does when it serves.
say('ready')
note("ready")
while True: time.sleep(0.05)  # A signal just before a long sleep would be heard after it.
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_signals_are_passed_on_once_each_and_the_third_kills(number):
    # Under nohup a hangup is ignored, and so not passed on.
    before = signal.signal(number, signal.SIG_DFL)
    task = asyncio.create_task(supervisor(HEARS, 2).run())
    try:
        for count, heard in ((2, "ready"), (2, "SIGTERM"), (2, "SIGINT")):
            await eventually(
                lambda count=count, heard=heard: (
                    sum(heard in line for line in notes()) == count
                )
            )
            os.kill(os.getpid(), number)
        assert await task == EXIT_FORCED
        assert len(notes()) == 8, "each is passed on once to each process"
    finally:
        signal.signal(number, before)


async def test_a_stop_does_not_wait_for_a_process_that_is_about_to_be_started_again():
    running = supervisor("sys.exit(1)", first_wait=60.0)
    task = asyncio.create_task(running.run())
    await eventually(lambda: len(notes()) == 1)
    await asyncio.sleep(0.3)
    running.stop()
    async with asyncio.timeout(2):
        assert await task == 0


# Whole workers

SHOP = """
    import asyncio, os, signal
    from streams import Event, Pipeline, Retry

    VERSION = 1
    pipeline = Pipeline.from_env()

    def note(what, event):
        with open("log", "a") as file:
            file.write(f"{what} {event.data['id']} {event.attempt} v{VERSION} {os.getpid()}\\n")

    @pipeline.handler("orders", group="billing", retry=Retry(delay=0.05))
    async def charge(event: Event) -> None:
        note("start", event)
        if event.data.get("kill") and event.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(event.data.get("s", 0) if VERSION == 1 else 0)
        note("done", event)
"""


class Shop:
    """A folder with the pipeline, and a worker that runs it."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        self.file = cli.folder / "shop.py"
        self.file.write_text(textwrap.dedent(SHOP))
        self.log_file = cli.folder / "worker.log"

    @contextlib.contextmanager
    def worker(self, *arguments: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        with (
            self.log_file.open("wb") as log,
            terminal.streams(
                *("worker", "shop:pipeline", "--lease", "0.6", *arguments),
                stdin=subprocess.DEVNULL,
                stderr=log,
                cwd=self.cli.folder,
                env=self.cli.env | env,
                process_group=0,
            ) as process,
        ):
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def lines(self, what: str) -> list[str]:
        file = self.cli.folder / "log"
        return [line for line in whole_lines(file) if line.startswith(what)]

    def logged(self, text: str) -> int:
        return self.log_file.read_text().count(text)

    def publish(self, *bodies: dict, **env: str) -> None:
        text = "".join(json.dumps(body) + "\n" for body in bodies)
        self.cli(
            "publish", "orders", "--file", "-", "--type", "order", stdin=text, **env
        )

    def wait(self, what: str, count: int) -> None:
        wait_until(lambda: len(self.lines(what)) >= count, what=f"{count} {what}")

    def wait_logged(self, text: str, count: int = 1) -> None:
        wait_until(
            lambda: self.logged(text) >= count, seconds=40, what=f"{count} of {text!r}"
        )

    def unfinished(self) -> int:
        levels = self.cli.json("ls", "orders")["streams"][0]["groups"][0]["levels"]
        return sum(
            level["waiting"] + level["processing"] + level["retrying"]
            for level in levels
        )


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server(BINARIES[0]).start()
    yield running
    running.close()


@pytest.fixture
def shop(server, namespace, tmp_path) -> Shop:
    return Shop(Cli(server, f"{namespace}v", tmp_path))


def alive(pid: int) -> bool:
    """Whether a process that is not our child runs."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_killed_process_is_replaced_and_its_events_run_again(shop: Shop) -> None:
    with shop.worker("--processes", "2", "--concurrency", "5") as worker:
        shop.wait_logged("] INFO    worker    started", 2)
        shop.publish(
            {"id": 0, "kill": True}, *({"id": n, "s": 0.05} for n in range(1, 41))
        )
        shop.wait("done", 41)
        shop.wait_logged("] INFO    worker    started", 3)
        worker.terminate()
        assert worker.wait(30) == 0
    assert {line.split()[1] for line in shop.lines("done")} == {
        str(n) for n in range(41)
    }
    assert shop.unfinished() == 0
    assert shop.logged("code=-9") == 1
    for line in shop.log_file.read_text().splitlines():
        assert line.split()[1] in ("[1]", "[2]", "INFO", "WARNING"), line
    assert (
        shop.logged("[1] INFO    worker    stopped")
        + shop.logged("[2] INFO    worker    stopped")
        == 2
    )


def test_the_death_of_the_supervisor_stops_its_processes_in_order(shop: Shop) -> None:
    with shop.worker("--processes", "2", "--concurrency", "1") as worker:
        shop.wait_logged("] INFO    worker    started", 2)
        shop.publish({"id": 1, "s": 2.0}, {"id": 2, "s": 2.0}, {"id": 3, "s": 2.0})
        shop.wait("start", 2)
        pids = {int(line.split()[4]) for line in shop.lines("start")}
        assert len(pids) == 2
        worker.kill()
        wait_until(lambda: not any(map(alive, pids)), what="the processes to end")
    assert len(shop.lines("done")) == len(shop.lines("start")) == 2
    assert shop.unfinished() == 1, "nothing more was started"


def test_a_signal_to_all_processes_at_once_is_one_order_to_stop(shop: Shop) -> None:
    """As systemd does it: to the supervisor, which passes it on, and to each process itself.

    Many come here, so that one comes in the middle of another.
    """
    with shop.worker(
        "--processes", "2", "--concurrency", "1", "--log", "json"
    ) as worker:
        shop.wait_logged('"child":"1"')
        shop.wait_logged('"child":"2"')
        shop.publish({"id": 1, "s": 2.0}, {"id": 2, "s": 2.0})
        shop.wait("start", 2)
        processes = [
            row["pid"]
            for row in map(json.loads, shop.log_file.read_text().splitlines())
            if "pid" in row
        ]
        for _ in range(300):
            for pid in processes:
                os.kill(pid, signal.SIGTERM)
        os.killpg(worker.pid, signal.SIGTERM)
        assert worker.wait(30) == 0
    assert len(shop.lines("done")) == 2, shop.log_file.read_text()
    lines = [json.loads(line) for line in shop.log_file.read_text().splitlines()]
    assert {line.get("child") for line in lines if line["message"] == "stopped"} == {
        "1",
        "2",
        None,
    }


def test_ctrl_c_twice_means_now(shop: Shop) -> None:
    """A terminal sends SIGINT to all of them, too."""
    with shop.worker("--processes", "2", "--concurrency", "1") as worker:
        shop.publish({"id": 1, "s": 60.0}, {"id": 2, "s": 60.0})
        shop.wait("start", 2)
        os.killpg(worker.pid, signal.SIGINT)
        shop.wait_logged("] INFO    worker    stopping", 2)
        time.sleep(0.3)
        assert worker.poll() is None, "the first one waits for the handlers"
        os.killpg(worker.pid, signal.SIGINT)
        assert worker.wait(30) == 0
    assert shop.unfinished() == 2


def test_ctrl_c_while_processes_still_import_is_a_clean_end(shop: Shop) -> None:
    """At any instant of the start: of the interpreter, of the package, of the pipeline's module."""
    shop.file.write_text(
        "import time\nopen('importing', 'a').close()\ntime.sleep(0.3)\n"
        + shop.file.read_text()
    )
    for seconds in (0.0, 0.05, 0.2, 0.4, None):
        with shop.worker("--processes", "2") as worker:
            shop.wait_logged("process started", 2)
            if seconds is None:
                wait_until((shop.cli.folder / "importing").exists, what="the import")
            else:
                time.sleep(seconds)  # The instant is what the test is about.
            os.killpg(worker.pid, signal.SIGINT)
            assert worker.wait(30) == 0, shop.log_file.read_text()
        assert not shop.logged("Traceback"), shop.log_file.read_text()
        assert not shop.logged("KeyboardInterrupt"), shop.log_file.read_text()
        assert not shop.logged("returncode"), shop.log_file.read_text()
        (shop.cli.folder / "importing").unlink(missing_ok=True)


def test_an_embedded_server_outlives_the_processes_that_use_it(
    shop: Shop, namespace: str
) -> None:
    url = f"memory://{namespace}-{os.getpid()}-{time.monotonic_ns()}"
    with shop.worker("--processes", "1", STREAMS_URL=url) as worker:
        shop.wait_logged("] INFO    worker    started")
        shop.publish({"id": 1, "kill": True}, STREAMS_URL=url)
        shop.wait("done", 1)
        assert shop.lines("done")[0].split()[2] == "2"
        worker.terminate()
        assert worker.wait(30) == 0


def test_processes_that_would_share_nothing_are_refused(shop: Shop) -> None:
    with shop.worker("--processes", "2", STREAMS_URL="memory://") as worker:
        assert worker.wait(30) == 2
    assert shop.logged("give --url memory://NAME") >= 1


def test_reload_runs_new_code_and_loses_nothing(shop: Shop) -> None:
    with shop.worker("--reload") as worker:
        shop.wait_logged("] INFO    worker    started")
        shop.publish({"id": 1}, {"id": 2, "s": 60.0})
        shop.wait("start", 2)
        good = shop.file.read_text()
        shop.file.write_text(good.replace("VERSION = 1", "VERSION = 2"))
        shop.wait("done", 2)
        shop.publish({"id": 3})
        shop.wait("done", 3)
        shop.file.write_text("this is = no Python\n" + good)
        shop.wait_logged(
            "importing shop failed with SyntaxError: invalid syntax (shop.py, line 1)\n"
        )
        shop.publish({"id": 4})
        assert worker.poll() is None
        shop.file.write_text(good.replace("VERSION = 1", "VERSION = 3"))
        shop.wait("done", 4)
        worker.terminate()
        assert worker.wait(30) == 0
    done = {int(line.split()[1]): line.split()[2:4] for line in shop.lines("done")}
    # The one that was running was given back, at no cost to its attempts.
    assert done == {1: ["1", "v1"], 2: ["1", "v2"], 3: ["1", "v2"], 4: ["1", "v3"]}
    assert shop.unfinished() == 0


def test_reload_without_its_extra(shop: Shop) -> None:
    (shop.cli.folder / "watchfiles.py").write_text(
        "raise ModuleNotFoundError('no', name='watchfiles')"
    )
    path = f"{shop.cli.folder}{os.pathsep}{shop.cli.env['PYTHONPATH']}"
    sentence = shop.cli.refused(
        "worker", "shop:pipeline", "--reload", code=2, process=True, PYTHONPATH=path
    )
    assert "pip install 'streams[reload]'" in sentence
