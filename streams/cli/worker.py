"""``streams worker``: run the handlers of a pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from streams import logs
from streams.broker.server.connection import DEFAULT_URL, EMBEDDED
from streams.cli.common import Namespace, Url, Waiting, examples, override, seconds
from streams.cli.exit_codes import Exit, exit_code
from streams.cli.guests import accompanied
from streams.cli.loading import load, run_worker
from streams.cli.options import with_options
from streams.common.log_facts import logger_of
from streams.errors import ConfigurationError, StreamsError
from streams.pipeline import Pipeline
from streams.policy.levels import Levels
from streams.settings import Settings, parse_levels
from streams.worker import lifeline
from streams.worker.lifeline import Lifeline
from streams.worker.reload import folder_of
from streams.worker.supervisor import Supervisor, SupervisorOptions

logger = logger_of("worker")

HELP = (
    "Run the handlers of a pipeline until SIGTERM or Ctrl-C."
    "\n\nOne process: consumer, reclaimer and scheduler of every group that the "
    "pipeline declares. Start as many"
    " as you like, anywhere; they share the work. With --processes this command "
    "starts them itself, starts again what"
    " dies, and passes signals on."
    "\n\nA server that is away is waited for, at the start and later. Credentials "
    "that it refuses at the start end the"
    " worker; those that it took before are waited for, too. --wait says otherwise."
    "\n\nAt SIGTERM a worker stops fetching at once, lets running handlers finish "
    "within the grace period, and gives"
    " back the rest at no cost to its attempts. A second signal: now. Log lines go to "
    "standard error."
    + examples(
        "streams worker shop:pipeline",
        "streams worker shop:pipeline --reload",
        "streams worker path/to/shop.py:pipeline --processes 4 --concurrency 50 "
        "--log json",
        "STREAMS_URL=redis://redis:6379/0 streams worker app.events:pipeline "
        "--grace-period 25",
    )
)


@dataclass(frozen=True, kw_only=True)
class WorkerCommand:
    """Options of ``worker``."""

    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="Handlers at once, per process, for groups that do not say so themselves.",
            show_default="100",
        ),
    ] = None
    lease: Annotated[
        float | None,
        typer.Option(
            parser=seconds(0.3, 86_400),
            metavar="SPAN",
            help="Silence (seconds, 90s, 5m) after which an event counts as stalled, for groups that do not say so "
            "themselves. Handlers may run longer than that.",
            show_default="30",
        ),
    ] = None
    levels: Annotated[
        str | None,
        typer.Option(
            metavar="5,10",
            help="Take only the events of these levels; somebody else must take the others.",
            show_default="all",
        ),
    ] = None
    grace_period: Annotated[
        float | None,
        typer.Option(
            parser=seconds(0, 86_400),
            metavar="SPAN",
            help="Time that running handlers get at shutdown: seconds, 90s, 5m.",
            show_default="10",
        ),
    ] = None
    health: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Serve /livez and /readyz here: 8080 (this machine only), :8080 (every interface), HOST:PORT or "
            "unix:PATH.",
            show_default="none",
        ),
    ] = None
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Run this many processes, and start again what dies.",
            show_default="one, by itself",
            rich_help_panel="Processes",
        ),
    ] = None
    reload: Annotated[
        bool,
        typer.Option(
            "--reload",
            help="For development: start again when a Python or env file changes. Needs the extra 'reload'.",
            rich_help_panel="Processes",
        ),
    ] = False
    log: Annotated[
        Literal["text", "json"] | None,
        typer.Option(help="Form of the log.", show_default="text"),
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="Least level.", show_default="info"),
    ] = None
    url: Url = None
    namespace: Namespace = None
    wait: Waiting = None

    def settings(self) -> dict[str, Any]:
        """The settings of the pipeline that are given."""
        levels = None if self.levels is None else _parse_levels(self.levels)
        return {
            "url": self.url,
            "namespace": self.namespace,
            "concurrency": self.concurrency,
            "lease": self.lease,
            "serve_levels": levels,
            "grace_period": self.grace_period,
            "health": self.health,
            "wait": self.wait,
        }


@with_options
def worker(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME",
            help="Where the pipeline is: a module or a .py file, and a name.",
            show_default=False,
        ),
    ],
    *,
    how: WorkerCommand,
) -> None:
    """Run a worker; see HELP."""
    own = how.settings()
    logging_ = {"log": how.log, "log_level": how.log_level}
    line = Lifeline.take()
    if line is not None:
        raise typer.Exit(_run_supervised(line, target, own, logging_))
    settings = override(Settings.from_env(), **logging_)
    logs.set_up(settings.log, settings.log_level)
    if how.processes is None and not how.reload:
        raise typer.Exit(_run(_load(target, own)))
    folder = folder_of(target) if how.reload else None
    address = override(settings, health=own.pop("health")).health
    command = [
        *_front(reload=how.reload),
        "worker",
        target,
        *_as_options({**own, **logging_}),
    ]
    again = () if (how.wait or settings.wait) == "never" else ("--wait=always",)
    options = SupervisorOptions(
        command, how.processes or 1, folder, health=address, once_reached=again
    )
    raise typer.Exit(asyncio.run(Supervisor(options).run()))


def _parse_levels(text: str) -> Levels:
    try:
        return parse_levels(text)
    except ValueError as error:
        raise ConfigurationError(f"--levels: {error}") from None


def _load(target: str, own: dict[str, Any]) -> Pipeline:
    pipeline = load(target)
    pipeline.settings = override(pipeline.settings, **own)
    pipeline.lifespans.append(lambda: accompanied(pipeline))
    return pipeline


def _run(pipeline: Pipeline) -> int:
    try:
        with _instrumented(pipeline):
            return run_worker(pipeline)
    except StreamsError as error:
        return _told(error)
    except Exception as error:
        if not _is_told(error):
            raise
        return int(Exit.FAILED)


@contextlib.contextmanager
def _instrumented(pipeline: Pipeline) -> Iterator[None]:
    """Let spans and metrics go where the settings say, while inside."""
    if not pipeline.settings.telemetry:
        yield
        return
    from streams.telemetry import export, instrument

    exported = export(pipeline.settings.telemetry.split(","), service="streams-worker")
    instrument(pipeline, exported)
    try:
        yield
    finally:
        exported.close()


def _run_supervised(
    line: Lifeline, target: str, own: dict[str, Any], logging_: dict[str, Any]
) -> int:
    """Run as one of the processes of a supervisor, which learns how far it comes."""
    try:
        settings = override(Settings.from_env(), **logging_)
        logs.set_up(settings.log, settings.log_level, line.name)
        # Only the supervisor's own option holds: another address would be the same for
        # each of its processes.
        pipeline = _load(target, {**own, "health": own["health"] or ""})
        line.tell(lifeline.READY, hold=_shared_server(pipeline))
        pipeline.on_reached = lambda: line.tell(lifeline.REACHED)
        with _instrumented(pipeline):
            return run_worker(pipeline)
    except StreamsError as error:
        line.tell(lifeline.UNREACHABLE if error.retryable else lifeline.HOPELESS)
        return _told(error)
    except Exception as error:
        if not _is_told(error):
            raise
        return int(Exit.FAILED)


def _is_told(error: Exception) -> bool:
    """Whether the log has said why the worker ended: by a user's exception, e.g. of a middleware that cannot start."""
    return bool(getattr(error, "is_logged", False))


def _told(error: StreamsError) -> int:
    # By now the log is what is read, so the end is told there, in its form.
    if not error.is_logged:
        logs.be_heard()
        logs.tell_end(logger, error)
    return int(exit_code(error))


def _shared_server(pipeline: Pipeline) -> str | None:
    """The URL of the embedded server that has to outlive one process; None for a server of its own."""
    url = pipeline.settings.url or DEFAULT_URL
    if url == DEFAULT_URL:
        raise ConfigurationError(
            "processes that a supervisor starts need a server that they share, and "
            "memory:// belongs to one process: "
            "give --url memory://NAME, embedded://PATH for a server that keeps its "
            "data, or redis://HOST:6379/0"
        )
    return url if url.startswith(EMBEDDED) else None


def _front(*, reload: bool) -> list[str]:
    """The command with which this program was started, up to its arguments: interpreter, its flags, program."""
    given, arguments = sys.orig_argv, sys.argv[1:]
    at = len(given) - len(arguments)
    front = given[1:at] if given[at:] == arguments else ["-m", "streams"]
    # Compiled files are trusted by their second: what is saved twice within one would
    # run in its old form.
    return [sys.executable, *(["-B"] if reload else []), *front]


def _as_options(values: dict[str, Any]) -> list[str]:
    """Options of the command line again."""
    options = {
        f"--{name.replace('_', '-')}": value
        for name, value in values.items()
        if name != "serve_levels"
    }
    levels = values.get("serve_levels")
    options["--levels"] = levels and ",".join(map(str, levels.ascending))
    # As one word: a level may be negative, and would be taken for an option.
    return [
        f"{option}={value}" for option, value in options.items() if value is not None
    ]
