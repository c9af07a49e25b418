"""``streams doctor``: what is wrong with the server and its streams, and what to do; ``--repair`` mends what it can."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from streams.broker import Broker
from streams.broker.admin.access import ROLES
from streams.broker.server.shards import Away
from streams.cli.common import (
    cell,
    examples,
    finish,
    person,
    remark,
    run,
    say,
    settings_of,
    stdout,
    tell_away,
    tell_of_new_folder,
    write_json,
)
from streams.cli.exit_codes import Exit
from streams.cli.guests import GUESTS
from streams.cli.options import OnServer, with_options
from streams.doctor import Doctor, Finding
from streams.doctor.repair import Repair, Strays
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline
from streams.quantities import counted

HELP = (
    "Look for what is wrong with the server and its streams; each finding says what "
    "to do."
    "\n\nRead only unless told to repair, and safe on a busy server. The exit code is "
    "for cron: 0 nothing that needs"
    " you, 1 warnings, 2 something critical. What the user may not ask (managed "
    "servers often refuse CONFIG) is told as"
    " unknown."
    "\n\n--repair mends what needs no decision: it ends pending entries whose payload "
    "is gone, makes retries without a"
    " due time and events that no consumer has due now, removes due times and attempt "
    "records of entries that are gone"
    " and rows that cannot be read, and takes losses of the server off the list. It "
    "says what it will do,"
    " and asks on a terminal; elsewhere it needs --yes. What it did is in each "
    "stream's audit record."
    + examples(
        "streams doctor",
        "streams doctor --stream orders --role producer",
        "streams doctor --json | jq '.findings[].code'",
        "streams doctor --repair --yes",
    )
)
_STYLE = {
    "critical": "bold red",
    "warning": "yellow",
    "unknown": "magenta",
    "info": "dim",
}
_MENDING = {
    "payloads_gone": ("pending whose payload is gone: take off the pending list",) * 2,
    "due_times_lost": (
        "retry without a due time: make it due now",
        "retries without a due time: make them due now",
    ),
    "due_times_stray": (
        "due time of an entry that is not pending: remove it",
        "due times of entries that are not pending: remove them",
    ),
    "records_stray": (
        "attempt record of an entry that is not pending: remove it",
        "attempt records of entries that are not pending: remove them",
    ),
    "scheduled_empty": (
        "due time of a scheduled event that is gone: remove it",
        "due times of scheduled events that are gone: remove them",
    ),
    "orphaned": (
        "event that was delivered and is with nobody: make it due now",
        "events that were delivered and are with nobody: make them due now",
    ),
    "unreadable": (
        "row that cannot be read: drop it",
        "rows that cannot be read: drop them",
    ),
    "scheduled_unreadable": (
        "scheduled event that cannot be read: drop it",
        "scheduled events that cannot be read: drop them",
    ),
    "losses": (
        "loss of the server, as doctor tells it: take it off the list",
        "losses of the server, as doctor tells them: take them off the list",
    ),
}
"""Each repair in words, of one and of several, and the field of ``Strays`` that counts it."""


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(OnServer):
    """Options of ``doctor``."""

    stream: Annotated[
        str,
        typer.Option(help="Only this stream, besides the server.", show_default=False),
    ] = ""
    role: Annotated[
        str, typer.Option(help=f"What the user is for: {', '.join(ROLES)}.")
    ] = "worker"
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what needs no decision.")
    ] = False
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="With --repair: do not ask.")
    ] = False


@with_options
def doctor(how: DoctorOptions) -> None:
    """Examine or repair; see HELP."""
    if how.role not in ROLES:
        raise ConfigurationError(f"--role {how.role!r}: use {', '.join(ROLES)}")
    if how.repair:
        _repair(how)
        return

    async def main() -> tuple[dict[str, str], list[Finding], int]:
        async with _reached(how.url, how.namespace) as broker:
            doctor = Doctor(broker, role=how.role, guests=GUESTS)
            about = await doctor.about()
            return about, await doctor.examine(how.stream), doctor.checks

    about, findings, checks = run(main)
    if how.as_json:
        write_json(
            {
                "server": about,
                "checks": checks,
                "findings": [finding.as_plain() for finding in findings],
            }
        )
    else:
        server = (
            f"{about['server']} {about['version']}".strip()
            or "a server that does not tell its version"
        )
        say(f"connected to {about['address']}: {server}, {about['topology']}")
        _print(findings, checks)
    severities = {finding.severity for finding in findings}
    finish(
        Exit.USAGE
        if "critical" in severities
        else Exit.FAILED
        if "warning" in severities
        else Exit.OK
    )


@contextlib.asynccontextmanager
async def _reached(url: str | None, namespace: str | None) -> AsyncIterator[Broker]:
    """The server, although its user may lack what every other command needs: that is what is looked for."""
    settings = settings_of(url, namespace)
    tell_of_new_folder(settings)
    broker = Broker(
        settings.url,
        namespace=settings.namespace,
        timeout=settings.timeout,
        url_file=settings.url_file,
    )
    try:
        await broker.connect(needs_clock=False)
        yield broker
    finally:
        await broker.close()


def _print(findings: list[Finding], checks: int) -> None:
    out = stdout()
    for finding in findings:
        style = _STYLE.get(finding.severity, "green")
        head = f"[{style}]{finding.severity:<8}[/] [bold]{cell(finding.where)}[/] {cell(finding.code)}"
        out.print(f"{head}: {cell(finding.what)}", soft_wrap=True)
        if finding.todo:
            out.print(f"         [dim]->[/] {cell(finding.todo)}", soft_wrap=True)
    counts = Counter(finding.severity for finding in findings)
    found = ", ".join(f"{count} {severity}" for severity, count in counts.items())
    if not found:
        say(f"nothing found, {checks} checks")
    elif counts.keys() <= {"info", "unknown"}:
        say(f"nothing that needs you: {found}, {checks} checks")
    else:
        say(f"{found}, {checks} checks")


def _repair(how: DoctorOptions) -> None:
    if not how.yes and not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask at: give --yes")

    async def look(pipeline: Pipeline) -> tuple[dict[str, Strays], list[Away]]:
        repair = Repair(pipeline.broker, person())
        return await repair.look(how.stream), repair.away

    async def mend(pipeline: Pipeline) -> dict[str, Strays]:
        return await Repair(pipeline.broker, person()).mend(how.stream)

    plan, away = how.ask(look)
    work = any(getattr(strays, name) for strays in plan.values() for name in _MENDING)
    if not how.as_json:
        _tell(plan)
    if work and not how.yes and not typer.confirm("Repair?", err=True):
        remark("nothing was changed")
        finish(Exit.FAILED)
    done = how.ask(mend) if work else plan
    if how.as_json:
        write_json(
            {"repaired": {name: asdict(strays) for name, strays in done.items()}}
        )
    elif work:
        total = sum(
            getattr(strays, name) for strays in done.values() for name in _MENDING
        )
        say(f"repaired: {total}; written to the audit record")
    else:
        say(f"nothing to repair, {counted(len(plan), 'stream')} looked at")
    tell_away(away)


def _tell(plan: dict[str, Strays]) -> None:
    for stream, strays in plan.items():
        for name, (one, several) in _MENDING.items():
            if count := getattr(strays, name):
                say(f"{stream}: {counted(count, one, several)}")
        if strays.scheduled_stranded:
            stranded = counted(strays.scheduled_stranded, "scheduled event")
            say(f"{stream}: {stranded} without a due time: left for you to decide")
