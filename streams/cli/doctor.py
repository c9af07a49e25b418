"""``streams doctor``: faults of the server and its streams, and how they are repaired."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from streams.broker import Broker
from streams.broker.admin.access import ROLES
from streams.cli.common import (
    cell,
    confirm,
    examples,
    finish,
    option,
    person,
    refuse_unasked,
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
"""Each repair in words, of one and of several, by the field of ``Strays`` that counts it."""


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(OnServer):
    """Options of ``doctor``."""

    stream: Annotated[str, option("Only this stream, besides the server.")] = ""
    role: Annotated[
        str, typer.Option(help=f"What the user is for: {', '.join(ROLES)}.")
    ] = "worker"
    repair: Annotated[bool, option("Mend what needs no decision.", "--repair")] = False
    yes: Annotated[bool, option("With --repair: do not ask.", "--yes", "-y")] = False


@with_options
def doctor(how: DoctorOptions) -> None:
    """Examine or repair; see HELP."""
    if how.role not in ROLES:
        raise ConfigurationError(f"--role {how.role!r}: use {', '.join(ROLES)}")

    if how.repair:
        refuse_unasked(yes=how.yes)
        how.ask(lambda pipeline: _repair(pipeline, how))
    else:
        run(lambda: _examine(how))


async def _examine(how: DoctorOptions) -> None:
    async with _reached(how) as broker:
        doctor = Doctor(broker, role=how.role, guests=GUESTS)
        about = await doctor.about()
        findings = await doctor.examine(how.stream)

    if how.as_json:
        plain = [finding.as_plain() for finding in findings]
        write_json({"server": about, "checks": doctor.checks, "findings": plain})
    else:
        server = (
            f"{about['server']} {about['version']}".strip()
            or "a server that does not tell its version"
        )

        say(f"connected to {about['address']}: {server}, {about['topology']}")
        _print(findings, doctor.checks)

    severities = {finding.severity for finding in findings}

    if "critical" in severities:
        finish(Exit.USAGE)

    finish(Exit.FAILED if "warning" in severities else Exit.OK)


@contextlib.asynccontextmanager
async def _reached(how: DoctorOptions) -> AsyncIterator[Broker]:
    """The server, although its user may lack rights that other commands need."""
    settings = settings_of(how.url, how.namespace)
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
        where, what = cell(finding.where), cell(finding.what)
        head = (
            f"[{style}]{finding.severity:<8}[/] [bold]{where}[/] {cell(finding.code)}"
        )

        out.print(f"{head}: {what}", soft_wrap=True)

        if finding.todo:
            out.print(f"         [dim]->[/] {cell(finding.todo)}", soft_wrap=True)

    counts = Counter(finding.severity for finding in findings)
    found = ", ".join(f"{count} {severity}" for severity, count in counts.items())

    if not found:
        found = "nothing found"
    elif counts.keys() <= {"info", "unknown"}:
        found = f"nothing that needs you: {found}"

    say(f"{found}, {checks} checks")


async def _repair(pipeline: Pipeline, how: DoctorOptions) -> None:
    repair = Repair(pipeline.broker, person())
    done = await repair.look(how.stream)
    away = repair.away
    has_work = _total(done) > 0

    if not how.as_json:
        _tell(done)

    if has_work:
        confirm("Repair?", yes=how.yes)
        done = await Repair(pipeline.broker, person()).mend(how.stream)

    text = f"nothing to repair, {counted(len(done), 'stream')} looked at"

    if has_work:
        text = f"repaired: {_total(done)}; written to the audit record"

    repaired = {name: asdict(strays) for name, strays in done.items()}
    how.tell({"repaired": repaired}, text)
    tell_away(away)


def _total(found: dict[str, Strays]) -> int:
    return sum(getattr(strays, name) for strays in found.values() for name in _MENDING)


def _tell(plan: dict[str, Strays]) -> None:
    for stream, strays in plan.items():
        for name, words in _MENDING.items():
            count = getattr(strays, name)

            if count:
                say(f"{stream}: {counted(count, *words)}")

        if strays.scheduled_stranded:
            stranded = counted(strays.scheduled_stranded, "scheduled event")
            say(f"{stream}: {stranded} without a due time: left for you to decide")
