"""Writes the page of the command line from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main
from rich.text import Text

from streams.cli.app import app
from streams.cli.exit_codes import MEANINGS


def page() -> str:
    """The page as Markdown."""
    command = typer.main.get_command(app)
    parts = [
        "# Commands\n\nThis page is made from the commands; `--help` at any of them says the same."
    ]
    parts += _sections("streams", command)
    codes = "\n".join(
        f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items()
    )
    parts.append(f"## Exit codes\n\n| code | meaning |\n| --- | --- |\n{codes}\n")
    return "\n\n".join(parts)


def _sections(path: str, command: Any) -> Iterator[str]:
    if not hasattr(command, "list_commands"):
        yield _section(path, command)
        return
    context = typer.Context(command)
    for name in command.list_commands(context):
        yield from _sections(f"{path} {name}", command.get_command(context, name))


def _section(path: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [
        one
        for one in command.params
        if one.param_type_name == "option" and "--help" not in one.opts
    ]
    usage = " ".join([path, *(_argument(one) for one in arguments), "[OPTION]..."])
    parts = [f"## {path}\n\n```text\n{usage}\n```", _prose(command.help or "")]
    if options:
        rows = "\n".join(
            f"| {_names(one)} | {_cell(one.help or '')}{_default(one)} |"
            for one in options
        )
        parts.append(f"| option | meaning |\n| --- | --- |\n{rows}")
    return "\n\n".join(parts)


def _argument(one: Any) -> str:
    name = one.metavar or one.name.upper()
    return name if one.required else f"[{name}]"


def _names(one: Any) -> str:
    value = "" if one.is_flag else f" {one.metavar}" if one.metavar else " VALUE"
    return ", ".join(f"`{name}{value}`" for name in [*one.opts, *one.secondary_opts])


def _default(one: Any) -> str:
    shown = one.show_default if isinstance(one.show_default, str) else ""
    if one.show_default is True and one.default and one.default is not True:
        shown = str(one.default)
    return f" Default: `{shown.strip('()')}`." if shown else ""


def _plain(markup: str) -> str:
    return Text.from_markup(markup).plain


def _cell(text: str) -> str:
    text = _plain(" ".join(text.split())).replace("|", "\\|").replace("<", "&lt;")
    return text if text.endswith((".", ":")) or not text else f"{text}."


def _prose(text: str) -> str:
    """Paragraphs as they are; indented lines, which are examples, as a block."""
    parts = []
    for part in _plain(text).replace("\b", "").split("\n\n"):
        lines = part.strip("\n").splitlines()
        if lines and all(line.startswith("  ") for line in lines):
            parts.append(
                "```text\n" + "\n".join(line.strip() for line in lines) + "\n```"
            )
        elif part.strip() and part.strip() != "Examples":
            parts.append(" ".join(part.split()).replace("<", "&lt;"))
    return "\n\n".join(parts)
