"""``streams health``: ask a worker whether it is ready or alive."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.address import Address
from streams.cli.common import (
    AsJson,
    examples,
    finish,
    option,
    override,
    run,
    say,
    seconds,
    write_json,
)
from streams.cli.exit_codes import Exit
from streams.errors import ConfigurationError
from streams.health import LIVE, READY, ask
from streams.settings import Settings

HELP = (
    "Ask a worker whether it is ready (the default) or alive; the exit code is 0 for "
    "yes and 1 for no."
    "\n\nMeant for probes that run a command. The worker serves its health where "
    "--health or STREAMS_HEALTH tells it;"
    " this command asks at the same address. Alive does not depend on the server, ready does."
    + examples(
        "streams health",
        "streams health --live --address unix:/run/streams.sock",
        "STREAMS_HEALTH=8080 streams health --json",
    )
)


def health(
    *,
    live: Annotated[
        bool, option("Ask whether it is alive: worth keeping.", "--live")
    ] = False,
    ready: Annotated[
        bool, option("Ask whether it is ready: can take events.", "--ready")
    ] = False,
    address: Annotated[
        str | None,
        option(
            "Where the worker serves its health.",
            metavar="ADDRESS",
            show_default="STREAMS_HEALTH",
        ),
    ] = None,
    within: Annotated[
        float,
        typer.Option(
            parser=seconds(0.05, 60),
            metavar="SPAN",
            help="Time to wait for the answer: seconds, 500ms, 10s.",
        ),
    ] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Ask a worker; see HELP."""
    if live and ready:
        raise ConfigurationError(
            "--live and --ready are two questions: ask one at a time"
        )
    where = override(Settings.from_env(), health=address).health
    if not where:
        raise ConfigurationError(
            "which worker? Give --address or set STREAMS_HEALTH to the address "
            "at which it serves its health, e.g. 8080"
        )
    target = Address.parse(where)

    answer = run(lambda: ask(target, LIVE if live else READY, within=within))
    if as_json:
        checks = answer.report.as_plain()["checks"] if answer.report else []
        head = {"ok": answer.ok, "says": answer.says, "address": str(target)}
        write_json({**head, "checks": checks})
    else:
        say(answer.says)
    finish(Exit.OK if answer.ok else Exit.FAILED)
