"""``streams config``: every setting with its value, and where that comes from."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from streams.cli.common import (
    AsJson,
    cell,
    examples,
    finish,
    remark,
    stdout,
    table,
    write_json,
)
from streams.cli.exit_codes import Exit
from streams.cli.loading import load
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline
from streams.policy.levels import Levels
from streams.settings import Reading, Settings, gather, read_settings, shown_url

HELP = (
    "Show every setting, its value, and where that comes from."
    "\n\nThe environment decides over .env.local, that over .env, that over the "
    "default. With MODULE:NAME the pipeline"
    " is loaded: what it sets in its code decides over all of them, and its groups "
    "are shown with what they set for"
    " themselves. A malformed value is shown with what would be accepted, and ends "
    "the command with 2. User, password"
    " and query of a URL are never shown. No server is asked."
    + examples(
        "streams config",
        "streams config shop:pipeline",
        "streams config --json | jq '.settings[] | select(.source != \"default\")'",
    )
)
_OTHERS = {"STREAMS_ENV", "STREAMS_SERVER_BINARY"}
"""Variables of ours that are no settings."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of the table: a reading, and the pipeline that decides instead, if one does."""

    reading: Reading
    value: Any
    pipeline: str = ""

    def as_plain(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        reading = self.reading
        return {
            "name": reading.name,
            "value": None if reading.error else _plain(reading.name, self.value),
            "unit": reading.unit,
            "default": _plain(reading.name, reading.default),
            "source": "pipeline"
            if self.pipeline
            else reading.origin.removeprefix("the "),
            "variable": reading.variable or None,
            "error": reading.error or None,
        }

    @property
    def origin(self) -> str:
        """Where the value comes from, in words."""
        found = (
            f"{self.reading.variable} in {self.reading.origin}"
            if self.reading.variable
            else "default"
        )
        if not self.pipeline:
            return found
        return self.pipeline + (
            f", not {self.reading.variable}" if self.reading.variable else ""
        )


def config(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:NAME",
            help="Show the settings of this pipeline.",
            show_default=False,
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show the settings; see HELP."""
    readings = [_checked(reading) for reading in read_settings(os.environ, Path.cwd())]
    wrong = [reading.error for reading in readings if reading.error]
    # A pipeline that reads the environment could not be loaded while a value there is
    # malformed.
    pipeline = load(target) if target is not None and not wrong else None
    rows = [_row(reading, pipeline, target or "") for reading in readings]
    strangers = _strangers()
    if as_json:
        groups = {"groups": _groups(pipeline)} if pipeline else {}
        write_json(
            {
                "settings": [row.as_plain() for row in rows],
                **groups,
                "unknown": strangers,
            }
        )
    else:
        stdout().print(_settings_table(rows))
        if pipeline:
            stdout().print()
            stdout().print(_groups_table(pipeline))
    for sentence in [*map(_hint, strangers), *wrong]:
        remark(f"streams: {sentence}")
    if wrong:
        finish(Exit.USAGE)


def shown(name: str, value: Any) -> str:
    """A setting's value as text: as an environment variable would have it, but without secrets."""
    if value is None or value == "":
        return {"serve_levels": "all", "log_tracebacks": "auto"}.get(name, "none")
    if isinstance(value, bool):
        return str(int(value))
    if name == "url":
        return shown_url(value)
    if isinstance(value, Levels):
        return ",".join(map(str, value.ascending))
    return (
        str(int(value))
        if isinstance(value, float) and value.is_integer()
        else str(value)
    )


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Levels):
        return list(value.ascending)
    return shown_url(value) if name == "url" and value else value


def _checked(reading: Reading) -> Reading:
    """The reading, with the error of a URL that cannot be used; nothing is connected to."""
    if reading.name != "url" or reading.error:
        return reading
    try:
        Pipeline(reading.value)
    except ConfigurationError as error:
        return reading._replace(
            error=f"{reading.variable} (from {reading.origin}): {error}"
        )
    return reading


def _row(reading: Reading, pipeline: Pipeline | None, target: str) -> SettingRow:
    own = getattr(pipeline.settings, reading.name) if pipeline else reading.value
    return SettingRow(reading, own, target if own != reading.value else "")


def _settings_table(rows: list[SettingRow]) -> Table:
    made = table("SETTING", "VALUE", "UNIT", "DEFAULT", "FROM")
    for row in rows:
        reading = row.reading
        value = cell(shown(reading.name, row.value))
        if reading.error:
            value = f"[red]{cell(reading.text or 'empty')}[/]"
        elif row.origin != "default":
            value = f"[bold]{value}[/]"
        origin = cell(row.origin) if row.origin != "default" else "[dim]default[/]"
        made.add_row(
            reading.name,
            value,
            reading.unit,
            cell(shown(reading.name, reading.default)),
            origin,
        )
    return made


def _groups(pipeline: Pipeline) -> list[dict[str, Any]]:
    return [
        {
            "stream": plan.stream,
            "group": plan.group,
            "concurrency": plan.concurrency,
            "lease": plan.lease,
        }
        for plan in pipeline.plans
    ]


def _groups_table(pipeline: Pipeline) -> Table:
    made = table("STREAM", "GROUP", ">CONCURRENCY", ">LEASE")
    for row in _groups(pipeline):
        made.add_row(
            cell(row["stream"]),
            cell(row["group"]),
            str(row["concurrency"]),
            shown("lease", row["lease"]),
        )
    return made


def _strangers() -> list[str]:
    """Variables that look like ours and are not, as a slip of the pen leaves them."""
    known = {
        f"STREAMS_{setting.name.upper()}" for setting in fields(Settings)
    } | _OTHERS
    found = gather(os.environ, Path.cwd())
    return sorted(
        name for name in found if name.startswith("STREAMS_") and name not in known
    )


def _hint(stranger: str) -> str:
    near = difflib.get_close_matches(
        stranger, [f"STREAMS_{setting.name.upper()}" for setting in fields(Settings)], 1
    )
    return f"{stranger} is not a setting" + (
        f"; did you mean {near[0]}?" if near else ""
    )
