"""``streams whatsapp stats``: how many messages stand where, and what was done, by tenant, instance, day or hour."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streams.cli.common import (
    AsJson,
    Namespace,
    Url,
    cell,
    connected,
    examples,
    run,
    say,
    stdout,
    table,
    write_json,
)
from streams.errors import ConfigurationError

if TYPE_CHECKING:
    from streams.whatsapp.analytics import Figures

HELP = (
    "How many messages stand where, and what was done."
    "\n\nOver the last days, today included: every tenant, or one tenant by instance, day, or hour of the last day."
    " Days and hours are UTC. Days are kept for 400 days, hours for 32. The time from queue to provider is exact to a"
    " quarter."
    + examples(
        "streams whatsapp stats",
        "streams whatsapp stats --tenant acme --days 30 --by day",
    )
)
_COUNTS = ("queued", "sent", "delivered", "read", "failed", "retried")


def stats(
    *,
    tenant: Annotated[
        str,
        typer.Option(
            "--tenant", help="Only this one, in more detail.", show_default=False
        ),
    ] = "",
    days: Annotated[
        int, typer.Option("--days", min=1, max=400, help="Today and the days before.")
    ] = 1,
    by: Annotated[
        Literal["instance", "day", "hour"], typer.Option("--by", help="Of one tenant.")
    ] = "instance",
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show counts."""
    from streams.whatsapp import Messages, WhatsAppSettings
    from streams.whatsapp.analytics import Analytics, total

    if by != "instance" and not tenant:
        raise ConfigurationError("--by is of one tenant: give --tenant")

    async def main() -> tuple[Any, dict[str, Figures]]:
        async with connected(url, namespace) as pipeline:
            counts = await Messages(pipeline, WhatsAppSettings.from_env()).counts()
            last = datetime.fromtimestamp(pipeline.broker.clock.now(), UTC).date()
            first, analytics = last - timedelta(days=days - 1), Analytics(pipeline)
            if not tenant:
                return counts, await analytics.tenants(first, last)
            if by == "hour":
                return counts, await analytics.hours(tenant, last)
            asked = analytics.days if by == "day" else analytics.instances
            return counts, await asked(tenant, first, last)

    counts, rows = run(main)
    whole = total(rows.values())
    if as_json:
        figures = {name: _plain(each) for name, each in rows.items()}
        write_json({"now": asdict(counts), "figures": figures, "total": _plain(whole)})
        return
    say(", ".join(f"{count} {name}" for name, count in asdict(counts).items()) + " now")
    shown = table(
        (by if tenant else "tenant").upper(),
        *(f">{name.upper()}" for name in _COUNTS),
        ">P50",
        ">P95",
        "FAILED BECAUSE",
    )
    for name, each in [*rows.items(), ("total", whole)]:
        waits = [each.percentile(share) for share in (0.5, 0.95)]
        reasons = ", ".join(
            f"{reason} {count}" for reason, count in each.reasons.most_common(3)
        )
        shown.add_row(
            cell(name),
            *(str(getattr(each, count)) for count in _COUNTS),
            *("" if wait is None else f"{wait:g} s" for wait in waits),
            cell(reasons),
        )
    stdout().print(shown)


def _plain(figures: Figures) -> dict[str, Any]:
    percentiles = {
        f"p{round(share * 100)}": figures.percentile(share)
        for share in (0.5, 0.95, 0.99)
    }
    return {name: getattr(figures, name) for name in _COUNTS} | {
        "reasons": dict(figures.reasons),
        **percentiles,
    }
