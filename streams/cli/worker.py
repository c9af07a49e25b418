"""``streams worker``: run the handlers of a pipeline."""

from __future__ import annotations

import logging
from typing import Annotated, Literal

import typer

from streams import logs
from streams.cli.common import Namespace, Url, examples, finish, override
from streams.cli.exit_codes import exit_code
from streams.errors import StreamsError
from streams.settings import Settings
from streams.worker import load, run_worker

logger = logging.getLogger("streams.worker")

HELP = (
    "Run the handlers of a pipeline until SIGTERM or Ctrl-C."
    "\n\nOne process: consumer, reclaimer and scheduler of every group that the pipeline declares. Start as many"
    " processes as you like, anywhere; they share the work. At SIGTERM a worker stops fetching at once, lets"
    " running handlers finish within the grace period, and gives back the rest at no cost to its attempts."
    " A second signal: now. Log lines go to standard error."
    + examples(
        "streams worker shop:pipeline",
        "streams worker path/to/shop.py:pipeline --concurrency 50 --log json",
        "STREAMS_URL=redis://redis:6379/0 streams worker app.events:pipeline --grace-period 25",
    )
)


def worker(  # noqa: PLR0913 - each is an option of the command
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME", help="Where the pipeline is: a module or a .py file, and a name.", show_default=False
        ),
    ],
    *,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1, max=100_000, help="Handlers at once, for groups that do not say so themselves.", show_default="100"
        ),
    ] = None,
    lease: Annotated[
        float | None,
        typer.Option(
            min=0.3,
            max=86_400,
            help="Seconds of silence after which an event counts as stalled, for groups that do not say so themselves. "
            "Handlers may run longer than that.",
            show_default="30",
        ),
    ] = None,
    grace_period: Annotated[
        float | None,
        typer.Option(min=0, max=86_400, help="Seconds that running handlers get at shutdown.", show_default="10"),
    ] = None,
    log: Annotated[Literal["text", "json"] | None, typer.Option(help="Form of the log.", show_default="text")] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option(help="Least level.", show_default="info")
    ] = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Run a worker; see HELP."""
    settings = override(Settings.from_env(), log=log, log_level=log_level)
    logs.set_up(settings.log, settings.log_level)
    pipeline = load(target)
    pipeline.settings = override(
        pipeline.settings,
        url=url,
        namespace=namespace,
        concurrency=concurrency,
        lease=lease,
        grace_period=grace_period,
    )
    try:
        code = run_worker(pipeline)
    except StreamsError as error:
        # From here on the log is what is read, so the end is told there, in its form.
        logger.error("the worker ends: %s", error)  # noqa: TRY400 - the sentence says it all
        finish(exit_code(error))
    raise typer.Exit(code)
