"""WhatsApp as an application of the pipeline: what it brings to the other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from streams.common.guests import Guest

if TYPE_CHECKING:
    import typer

    from streams.dashboard.board import Board, Host


class WhatsApp(Guest):
    """Commands below ``streams whatsapp``, pages, and operations of the API."""

    def commands(self) -> Mapping[str, typer.Typer]:
        """``streams whatsapp ...``."""
        from streams.whatsapp.cli.messages import app

        return {"whatsapp": app}

    def board(self, host: Host) -> Board:
        """Instances, endpoints and messages."""
        from streams.whatsapp.pages.board import MessagePages

        return MessagePages(host).board()
