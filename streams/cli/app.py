"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli import (
    cancel,
    config,
    dashboard,
    dead,
    demo,
    doctor,
    groups,
    health,
    keys,
    limits,
    looking,
    ls,
    pause,
    publish,
    show,
    top,
    why,
    worker,
)
from streams.cli.common import examples, finish, say
from streams.cli.exit_codes import MEANINGS, Exit
from streams.cli.guests import HostGroup

_CODES = "\n".join(f"  {int(code):>3}  {meaning}" for code, meaning in MEANINGS.items())

app = typer.Typer(
    name="streams",
    cls=HostGroup,
    help="Publish events, run their handlers, and see where they stand."
    "\n\nEvents wait on a stream, per priority level, until a group of workers has "
    "handled them. What fails is"
    " retried; what fails for good becomes a dead letter, to be looked at, replayed or discarded."
    "\n\nThe server comes from --url, STREAMS_URL or REDIS_URL, in the environment, "
    ".env.local or .env."
    + examples(
        "streams demo",
        "streams worker shop:pipeline --concurrency 50",
        "streams publish orders --type order.created --data '{\"id\": 1}'",
        "streams ls --url redis://localhost:6379/0",
    ),
    epilog=f"[bold]Exit codes[/]\n\n{_CODES}",
    rich_markup_mode="rich",
    no_args_is_help=True,
    # A traceback with local variables would show what was published.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        from streams import __version__

        say(f"streams {__version__}")
        finish(Exit.OK)


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and end.",
            callback=_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Hold the options of the program itself."""
    del version


app.command("worker", help=worker.HELP)(worker.worker)
app.command("publish", help=publish.HELP)(publish.publish)
app.command("ls", help=ls.HELP)(ls.ls)
app.command("top", help=top.HELP)(top.top)
app.command("show", help=show.HELP)(show.show)
app.command("why", help=why.HELP)(why.why)
app.command("find", help=looking.FIND_HELP)(looking.find)
app.command("workers", help=looking.WORKERS_HELP)(looking.workers)
app.command("audit", help=looking.AUDIT_HELP)(looking.audit)
app.add_typer(dead.app, name="dead", cls=HostGroup)
app.add_typer(groups.app, name="groups", cls=HostGroup)
app.add_typer(limits.app, name="limits", cls=HostGroup)
app.add_typer(keys.app, name="keys", cls=HostGroup)
app.command("cancel", help=cancel.CANCEL_HELP)(cancel.cancel)
app.command("run-now", help=cancel.RUN_NOW_HELP)(cancel.run_now)
app.command("pause", help=pause.PAUSE_HELP)(pause.pause)
app.command("resume", help=pause.RESUME_HELP)(pause.resume)
app.command("doctor", help=doctor.HELP)(doctor.doctor)
app.command("health", help=health.HELP)(health.health)
app.command("config", help=config.HELP)(config.config)
app.command("dashboard", help=dashboard.HELP)(dashboard.dashboard)
app.command("demo", help=demo.HELP)(demo.demo)
