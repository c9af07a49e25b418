"""``streams demo``: from an input file to balanced books, with a worker killed on the way."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.common import AsJson, examples, finish, remark, run, say, write_json
from streams.cli.demo.play import GROUP, STREAM, Play
from streams.cli.demo.screen import show_books, verdict
from streams.cli.demo.stage import DemoFailed, Stage, set_up
from streams.cli.exit_codes import Exit
from streams.errors import ConfigurationError

HELP = (
    "See the whole pipeline at work: publish, consume, retry, kill a worker, account "
    "for every line."
    "\n\nPublishes a file of 2,400 orders from two processes and charges them in two "
    "worker processes. Some lines are malformed, some orders fail once, some always. "
    "On the way one worker is killed with SIGKILL while it holds work, and another is "
    "started. At the end every input line must have exactly one end: handled, dead, "
    "duplicate or malformed; otherwise the exit code is 1."
    "\n\nRuns on an embedded server of its own, and leaves nothing behind. With --url "
    "it runs on that server, under a namespace of its own, which stays there to be "
    "looked at."
    + examples(
        "streams demo",
        "streams demo --keep",
        "streams demo --url redis://localhost:6379/0 --seed 42",
    )
)


def demo(
    *,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            exists=True,
            dir_okay=False,
            help="JSON lines of orders.",
            show_default="the orders that came along",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Make other orders of the same kind, from this seed.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Leave the folder with server data, ledger and logs."
        ),
    ] = False,
    as_json: AsJson = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="A server to run on.",
            show_default="an embedded one",
            rich_help_panel="Server",
        ),
    ] = None,
) -> None:
    """Play the demo; see HELP."""
    if source is not None and seed is not None:
        raise ConfigurationError("give --input or --seed, not both")
    with set_up(url, keep=keep) as stage:
        orders = source.resolve() if source else stage.orders / "orders.jsonl"
        if seed is not None:
            orders = stage.make_orders(seed)
        play = Play(stage, orders, partial(typer.echo, err=as_json))
        try:
            books = run(play.run)
        except DemoFailed:
            remark(stage.logs())
            raise
        seconds = play.seconds
        if not books.balanced:
            remark(stage.logs())
        if as_json:
            facts = {"seconds": round(seconds, 1), "events": play.news}
            write_json(books.as_dict() | facts)
        else:
            show_books(books)
            say(verdict(books, seconds))
            say(f"\nNext:\n{_next_steps(stage, url, keep=keep)}")
    finish(Exit.OK if books.balanced else Exit.FAILED)


def _next_steps(stage: Stage, url: str | None, *, keep: bool) -> str:
    if not (keep or url):
        return (
            "  streams demo --keep        the same, and look around in it afterwards: "
            "dead ls, dead replay, show\n"
            "  streams worker --help      run handlers of your own\n"
            f"  {stage.orders / 'shop.py'}\n"
            "                             the pipeline that has just run: copy it and "
            "go on from there"
        )
    where = f"--url {stage.url}"
    if url:
        where = f"--url URL --namespace {stage.namespace}"
    lines = [
        f"  streams dead ls {STREAM} {GROUP} {where}",
        f"  streams dead replay {STREAM} {GROUP} --reason retries-used-up {where}",
        f"  streams ls {where}",
    ]
    if keep:
        lines.append(f"  rm -r {stage.folder}")
    return "\n".join(lines)
