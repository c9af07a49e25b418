"""``streams whatsapp stats``: numbers of messages by tenant, instance, day or hour."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streams.cli.common import cell, examples, say, stdout, table, write_json
from streams.cli.options import OnServer, with_options
from streams.errors import ConfigurationError

if TYPE_CHECKING:
    from streams.pipeline import Pipeline
    from streams.whatsapp.analytics import Figures

HELP = (
    "How many messages stand where, and what was done."
    "\n\nOver the last days, today included: every tenant, or one tenant by instance,"
    " day, or hour of the last day. Days and hours are UTC. Days are kept for 400 days,"
    " hours for 32. The time from queue to provider is exact to a quarter."
    + examples(
        "streams whatsapp stats",
        "streams whatsapp stats --tenant acme --days 30 --by day",
    )
)


@with_options
def stats(
    *,
    tenant: Annotated[
        str,
        typer.Option(
            "--tenant", help="Only this one, in more detail.", show_default=False
        ),
    ] = "",
    days: Annotated[
        int,
        typer.Option(
            "--days",
            min=1,
            max=400,
            help="Today and the days before.",
        ),
    ] = 1,
    by: Annotated[
        Literal["instance", "day", "hour"], typer.Option("--by", help="Of one tenant.")
    ] = "instance",
    at: OnServer,
) -> None:
    """Show counts."""
    from streams.whatsapp import Messages, WhatsAppSettings
    from streams.whatsapp.analytics import Analytics, total

    if by != "instance" and not tenant:
        raise ConfigurationError("--by is of one tenant: give --tenant")

    async def main(pipeline: Pipeline) -> tuple[dict[str, int], dict[str, Figures]]:
        counts = await Messages(pipeline, WhatsAppSettings.from_env()).counts()
        last = datetime.fromtimestamp(pipeline.broker.clock.now(), UTC).date()
        first = last - timedelta(days=days - 1)
        analytics = Analytics(pipeline)

        if not tenant:
            rows = await analytics.tenants(first, last)
        elif by == "hour":
            rows = await analytics.hours(tenant, last)
        elif by == "day":
            rows = await analytics.days(
                tenant,
                first,
                last,
            )
        else:
            rows = await analytics.instances(tenant, first, last)

        return asdict(counts), rows

    counts, rows = at.ask(main)
    whole = total(rows.values())

    if at.as_json:
        figures = {name: _plain(each) for name, each in rows.items()}
        write_json(
            {
                "now": counts,
                "figures": figures,
                "total": _plain(whole),
            }
        )

        return

    say(", ".join(f"{count} {name}" for name, count in counts.items()) + " now")
    heads = [f">{name.upper()}" for name in (*whole.counts(), "p50", "p95")]
    shown = table(
        (by if tenant else "tenant").upper(),
        *heads,
        "FAILED BECAUSE",
    )

    for name, each in [*rows.items(), ("total", whole)]:
        waits = map(each.percentile, (0.5, 0.95))
        reasons = [f"{reason} {count}" for reason, count in each.reasons.most_common(3)]

        shown.add_row(
            cell(name),
            *map(str, each.counts().values()),
            *("" if wait is None else f"{wait:g} s" for wait in waits),
            cell(", ".join(reasons)),
        )

    stdout().print(shown)


def _plain(figures: Figures) -> dict[str, Any]:
    percentiles: dict[str, Any] = {
        f"p{percent}": figures.percentile(percent / 100) for percent in (50, 95, 99)
    }

    return figures.counts() | {"reasons": dict(figures.reasons)} | percentiles
