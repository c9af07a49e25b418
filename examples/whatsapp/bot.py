"""An auto-reply bot: what people write is answered through the queue, with priority 1.

STREAMS_WHATSAPP_INBOUND=true streams whatsapp webhook      # takes what people write
streams worker examples.whatsapp.bot:pipeline               # answers it, and sends
"""

from __future__ import annotations

from typing import Any

from streams import Event
from streams.whatsapp import Application, Buttons, Content, Messages, Text
from streams.whatsapp.webhooks.tracker import INBOUND_STREAM, RECEIVED

application = Application.from_env()
pipeline = application.pipeline.asynchronous

MENU = Buttons(
    "Como podemos ajudar?",
    {"hours": "Horário", "address": "Endereço", "person": "Falar com alguém"},
)
ANSWERS: dict[str, Content] = {
    "horário": Text("Abrimos de segunda a sábado, das 8h às 18h."),
    "endereço": Text("Rua das Flores, 100, Centro."),
    "falar com alguém": Text("Já chamamos uma pessoa da equipe."),
}


@pipeline.handler(INBOUND_STREAM, group="bot", types=[RECEIVED], order_by="instance")
async def answer(event: Event[dict[str, Any]]) -> None:
    """Answer one message; a retry of this handler answers no second time."""
    said = event.data
    await Messages(pipeline, application.settings).add(
        said["sender"],
        ANSWERS.get(said["text"].strip().lower(), MENU),
        instance=said["instance"],
        priority=1,
        reply_to=said["provider_id"],
        idempotency_key=f"answer-{said['provider_id']}",
        expires=3600.0,  # An answer of yesterday is of no use.
    )
