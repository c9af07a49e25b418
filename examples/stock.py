"""An application of the pipeline: a command, a page, an operation, a check and a worker's hooks.

The distribution that brings it names it in its pyproject.toml:

    [project.entry-points."streams.applications"]
    stock = "stock:Stock"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from streams import Broker, Guest, Pipeline

if TYPE_CHECKING:
    import typer

    from streams.dashboard import Board, Host
    from streams.doctor import Finding


class Stock(Guest):
    """How many things there are."""

    def commands(self) -> Mapping[str, typer.Typer]:
        """``streams stock``."""
        import typer

        app = typer.Typer(help="Say what is in stock.", invoke_without_command=True)
        app.callback()(lambda: print("7 in stock"))
        return {"stock": app}

    def board(self, host: Host) -> Board:
        """The page ``/stock``, and ``GET /api/v1/stock``."""
        from starlette.responses import PlainTextResponse

        from streams.dashboard import Board, Operation, Told

        async def page(_: Any) -> PlainTextResponse:
            return PlainTextResponse("7 in stock")

        async def answer(_: Any, __: Mapping[str, Any]) -> tuple[int, Any]:
            return 200, {"count": 7}

        schema = {"type": "object", "properties": {"count": {"type": "integer"}}}
        told = Told("stock", "As it is now.", schema)
        get = Operation("GET", "/stock", "getStock", "The stock.", answer, told=told)
        return Board(
            entries={"Stock": "/stock"},
            pages={"/stock": page},
            operations=[get],
            tags={"stock": "What there is."},
        )

    async def examine(self, broker: Broker) -> list[Finding]:
        """One finding of ``streams doctor``."""
        from streams.doctor import Finding

        return [Finding("stock:low", "warning", "stock", "7 in stock", "order more")]

    async def on_start(self, pipeline: Pipeline) -> None:
        """``streams worker`` begins."""
        print("the stock is open", flush=True)

    async def on_stop(self, pipeline: Pipeline) -> None:
        """``streams worker`` has ended its last handler."""
        print("the stock is closed", flush=True)
