"""``streams config``: every setting with its value, and where that comes from."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from rich.table import Table

from streams.cli.common import (
    AsJson,
    argument,
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


_VARIABLES = [f"STREAMS_{setting.name.upper()}" for setting in fields(Settings)]


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of the table: a reading, and the pipeline that decides instead, if one does."""

    reading: Reading
    value: Any
    pipeline: str = ""

    def as_plain(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        reading = self.reading
        source = "pipeline" if self.pipeline else reading.origin.removeprefix("the ")

        return {
            "name": reading.name,
            "value": None if reading.error else _plain(reading.name, self.value),
            "unit": reading.unit,
            "default": _plain(reading.name, reading.default),
            "source": source,
            "variable": reading.variable or None,
            "error": reading.error or None,
        }

    @property
    def origin(self) -> str:
        """Where the value comes from, in words."""
        variable = self.reading.variable

        if self.pipeline:
            return self.pipeline + (f", not {variable}" if variable else "")

        return f"{variable} in {self.reading.origin}" if variable else "default"

    def cells(self) -> tuple[str, ...]:
        """The row as cells of the table."""
        reading, origin = self.reading, self.origin
        value = cell(shown(reading.name, self.value))

        if reading.error:
            value = f"[red]{cell(reading.text or 'empty')}[/]"
        elif origin != "default":
            value = f"[bold]{value}[/]"

        return (
            reading.name,
            value,
            reading.unit,
            cell(shown(reading.name, reading.default)),
            cell(origin) if origin != "default" else "[dim]default[/]",
        )


def config(
    target: Annotated[
        str | None, argument("MODULE:NAME", "Show the settings of this pipeline.")
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
    groups = _groups(pipeline) if pipeline else []
    found = gather(os.environ, Path.cwd())
    strangers = sorted(
        name
        for name in found.keys() - _OTHERS - set(_VARIABLES)
        if name.startswith("STREAMS_")
    )

    if as_json:
        plain: dict[str, Any] = {"settings": [row.as_plain() for row in rows]}

        if pipeline:
            plain["groups"] = groups

        write_json({**plain, "unknown": strangers})
    else:
        columns = ("SETTING", "VALUE", "UNIT", "DEFAULT", "FROM")
        stdout().print(table(*columns, rows=(row.cells() for row in rows)))

        if pipeline:
            stdout().print()
            stdout().print(_groups_table(groups))

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

    whole = isinstance(value, float) and value.is_integer()

    return str(int(value) if whole else value)


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
        where = f"{reading.variable} (from {reading.origin})"
        return reading._replace(error=f"{where}: {error}")

    return reading


def _row(reading: Reading, pipeline: Pipeline | None, target: str) -> SettingRow:
    if pipeline is None:
        return SettingRow(reading, reading.value)

    own = getattr(pipeline.settings, reading.name)

    return SettingRow(reading, own, target if own != reading.value else "")


def _groups(pipeline: Pipeline) -> list[dict[str, Any]]:
    names = ("stream", "group", "concurrency", "lease")
    return [{name: getattr(plan, name) for name in names} for plan in pipeline.plans]


def _groups_table(groups: list[dict[str, Any]]) -> Table:
    columns = ("STREAM", "GROUP", ">CONCURRENCY", ">LEASE")
    made = table(*columns)

    for row in groups:
        made.add_row(*(cell(shown(*pair)) for pair in row.items()))

    return made


def _hint(stranger: str) -> str:
    """A variable that looks like ours and is not, as a slip of the pen leaves it."""
    near = difflib.get_close_matches(stranger, _VARIABLES, 1)
    hint = f"; did you mean {near[0]}?" if near else ""

    return f"{stranger} is not a setting{hint}"
