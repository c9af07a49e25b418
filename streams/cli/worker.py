"""``streams worker``: run the handlers of a pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import typer

from streams import logs
from streams.broker.server.connection import DEFAULT_URL, EMBEDDED
from streams.cli.common import (
    Namespace,
    Url,
    Waiting,
    argument,
    examples,
    option,
    override,
    seconds,
)
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
        option(
            "Handlers at once, per process, for groups that do not say so themselves.",
            min=1,
            max=100_000,
            show_default="100",
        ),
    ] = None
    lease: Annotated[
        float | None,
        option(
            "Silence (seconds, 90s, 5m) after which an event counts as stalled, for "
            "groups that do not say so themselves. Handlers may run longer than that.",
            parser=seconds(0.3, 86_400),
            metavar="SPAN",
            show_default="30",
        ),
    ] = None
    levels: Annotated[
        str | None,
        option(
            "Take only the events of these levels; somebody else must take the others.",
            metavar="5,10",
            show_default="all",
        ),
    ] = None
    grace_period: Annotated[
        float | None,
        option(
            "Time that running handlers get at shutdown: seconds, 90s, 5m.",
            parser=seconds(0, 86_400),
            metavar="SPAN",
            show_default="10",
        ),
    ] = None
    health: Annotated[
        str | None,
        option(
            "Serve /livez and /readyz here: 8080 (this machine only), :8080 (every "
            "interface), HOST:PORT or unix:PATH.",
            metavar="ADDRESS",
            show_default="none",
        ),
    ] = None
    processes: Annotated[
        int | None,
        option(
            "Run this many processes, and start again what dies.",
            min=1,
            max=1000,
            show_default="one, by itself",
            rich_help_panel="Processes",
        ),
    ] = None
    reload: Annotated[
        bool,
        option(
            "For development: start again when a Python or env file changes. "
            "Needs the extra 'reload'.",
            "--reload",
            rich_help_panel="Processes",
        ),
    ] = False
    log: Annotated[
        Literal["text", "json"] | None,
        option("Form of the log.", show_default="text"),
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        option("Least level.", show_default="info"),
    ] = None
    url: Url = None
    namespace: Namespace = None
    wait: Waiting = None

    def settings(self) -> dict[str, Any]:
        """The settings of the pipeline that are given."""
        given = asdict(self)
        for name in ("processes", "reload", "log", "log_level"):
            del given[name]

        levels = given.pop("levels")
        given["serve_levels"] = None if levels is None else _parse_levels(levels)
        return given


@with_options
def worker(
    target: Annotated[
        str,
        argument(
            "MODULE:NAME", "Where the pipeline is: a module or a .py file, and a name."
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
        raise typer.Exit(_run(lambda: _supervised(line, target, own, logging_), line))

    settings = override(Settings.from_env(), **logging_)
    logs.set_up(settings.log, settings.log_level)
    if how.processes is None and not how.reload:
        pipeline = _load(target, own)
        raise typer.Exit(_run(lambda: pipeline))

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


def _run(make: Callable[[], Pipeline], line: Lifeline | None = None) -> int:
    """Run the pipeline; a supervisor, if there is one, learns why it ends."""
    try:
        pipeline = make()
        with _instrumented(pipeline):
            return run_worker(pipeline)
    except StreamsError as error:
        if line is not None:
            line.tell(lifeline.UNREACHABLE if error.retryable else lifeline.HOPELESS)
        # By now the log is what is read, so the end is told there, in its form.
        if not error.is_logged:
            logs.be_heard()
            logs.tell_end(logger, error)
        return int(exit_code(error))
    except Exception as error:
        # The log has said why a user's exception ended it, e.g. that of a middleware.
        if not getattr(error, "is_logged", False):
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


def _supervised(
    line: Lifeline, target: str, own: dict[str, Any], logging_: dict[str, Any]
) -> Pipeline:
    """The pipeline of one process of a supervisor, which learns how far it comes."""
    settings = override(Settings.from_env(), **logging_)
    logs.set_up(settings.log, settings.log_level, line.name)
    # Only the supervisor's own option holds: another address would be the same for
    # each of its processes.
    pipeline = _load(target, {**own, "health": own["health"] or ""})
    line.tell(lifeline.READY, hold=_shared_server(pipeline))
    pipeline.on_reached = lambda: line.tell(lifeline.REACHED)
    return pipeline


def _shared_server(pipeline: Pipeline) -> str | None:
    """The URL of an embedded server that has to outlive one process; None for another."""
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
    """The command that started this program: interpreter, its flags, program."""
    given, arguments = sys.orig_argv, sys.argv[1:]
    at = len(given) - len(arguments)
    front = given[1:at] if given[at:] == arguments else ["-m", "streams"]
    # Compiled files are trusted by their second: what is saved twice within one would
    # run in its old form.
    return [sys.executable, *(["-B"] if reload else []), *front]


def _as_options(values: dict[str, Any]) -> list[str]:
    """Options of the command line again."""
    levels = values.get("serve_levels")
    text = levels and ",".join(map(str, levels.ascending))
    options = {**values, "serve_levels": None, "levels": text}
    # As one word: a level may be negative, and would be taken for an option.
    return [
        f"--{name.replace('_', '-')}={value}"
        for name, value in options.items()
        if value is not None
    ]
