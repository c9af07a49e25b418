"""``streams whatsapp instances``: what sends, and whether it can."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.common import (
    AsJson,
    Namespace,
    Url,
    cell,
    connected,
    examples,
    person,
    run,
    say,
    stdout,
    table,
    write_json,
)
from streams.retry import masked

app = typer.Typer(help="Show, check, pause and resume instances.", no_args_is_help=True)


@app.command("ls", help="Show the instances, whether they are paused, and with --check whether they are connected.")
def instances_ls(
    *,
    check: Annotated[bool, typer.Option("--check", help="Ask the providers.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show instances."""
    from streams.whatsapp import WhatsAppSettings
    from streams.whatsapp.instances import Instances, Providers
    from streams.whatsapp.status import STREAM

    settings = WhatsAppSettings.from_env()

    async def main() -> list[dict[str, str]]:
        instances, providers = Instances(settings), Providers(settings)
        async with connected(url, namespace) as pipeline:
            pauses = {p.value: p for p in await pipeline.pauses(STREAM).list() if p.attribute == "instance"}
        known = instances.all() or [found for ident in sorted({"1", *pauses}) if (found := instances.get(ident))]
        try:
            states = [await providers.of(one).connection(one) if check else "" for one in known]
        finally:
            await providers.close()
        return [
            {
                "id": one.id,
                "provider": one.provider,
                "name": masked(one.called),
                "connection": str(state),
                "paused": f"{pauses[one.id].by}: {pauses[one.id].reason}" if one.id in pauses else "",
            }
            for one, state in zip(known, states, strict=True)
        ]

    rows = run(main)
    if as_json:
        write_json({"instances": rows})
        return
    shown = table("INSTANCE", "PROVIDER", "NAME", "CONNECTION", "PAUSED")
    for row in rows:
        shown.add_row(*map(cell, row.values()))
    stdout().print(shown)


@app.command("pause", help="Hold every message of an instance." + examples("streams whatsapp instances pause 7"))
def instances_pause(
    ident: Annotated[str, typer.Argument(metavar="INSTANCE", show_default=False)],
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why.", show_default=False)] = "",
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Pause an instance."""
    from streams.whatsapp.status import STREAM

    async def main() -> bool:
        async with connected(url, namespace) as pipeline:
            return (await pipeline.pauses(STREAM, by=person()).pause(instance=ident, reason=reason)).new

    say(f"paused instance {ident}" if run(main) else f"instance {ident} was paused already")


@app.command(
    "resume", help="Let its messages go out again, whoever paused it." + examples("streams whatsapp instances resume 7")
)
def instances_resume(
    ident: Annotated[str, typer.Argument(metavar="INSTANCE", show_default=False)],
    *,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Resume an instance, from an operator's pause and from the breaker's."""
    from streams.whatsapp.status import STREAM

    async def main() -> int:
        async with connected(url, namespace) as pipeline:
            pauses = pipeline.pauses(STREAM, by=person())
            found = [pause for pause in await pauses.list() if (pause.attribute, pause.value) == ("instance", ident)]
            for pause in found:
                await pauses.resume(group=pause.group, instance=ident)
            return len(found)

    say(f"resumed instance {ident}" if run(main) else f"instance {ident} is not paused")
