"""A Flask application whose webhook answers through the queue.

    flask --app examples/whatsapp/flask_app run --port 5000

`POST /orders` tells a customer of an order; Meta calls `/webhook`, which answers each sender. Without any
setting the messages are kept by an embedded server and taken by a sandbox. Needs the extra `embedded`, and Flask.
"""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, Response, abort, jsonify, request

from streams.whatsapp import InvalidMessage, get_message_queue, send_message_via_queue
from streams.whatsapp.webhooks.updates import InboundMessage, from_meta, signed_by_meta

app = Flask(__name__)


@app.post("/orders")
def order() -> Any:
    """Take an order, and tell its customer; whatever becomes of the message, the order is taken."""
    given = request.get_json()
    result = send_message_via_queue(
        phone=given["phone"],
        message=f"Recebemos o seu pedido {given['number']}.",
        tenant_id=given["shop"],
        priority=5,
        idempotency_key=f"order-{given['number']}",
    )
    return jsonify(result), 201


@app.get("/messages/<message_id>")
def message(message_id: str) -> Any:
    """Where a message stands."""
    status = get_message_queue().get_status(message_id)
    return (
        (jsonify({"status": status}), 200)
        if status
        else (jsonify({"error": "unknown"}), 404)
    )


@app.get("/webhook")
def verify() -> Any:
    """Meta asks whether this is ours."""
    if request.args.get("hub.verify_token") != os.environ.get(
        "STREAMS_WHATSAPP_VERIFY_TOKEN", "choose-one"
    ):
        abort(403)
    return Response(request.args.get("hub.challenge", ""), mimetype="text/plain")


@app.post("/webhook")
def webhook() -> Any:
    """Answer who writes: queued, so that Meta has its answer in milliseconds and repeats bring no second message."""
    secret = os.environ.get("STREAMS_WHATSAPP_APP_SECRET", "")
    if not secret or not signed_by_meta(
        request.get_data(), request.headers.get("X-Hub-Signature-256", ""), secret
    ):
        abort(403)
    queue = get_message_queue()
    for update in from_meta(request.get_json()):
        if isinstance(update, InboundMessage) and update.kind == "text":
            try:
                queue.add_message(
                    phone=update.sender,
                    message="Olá! Recebemos a sua mensagem e já respondemos.",
                    priority=1,
                    reply_to=update.provider_id,
                    idempotency_key=f"answer-{update.provider_id}",
                )
            except InvalidMessage:
                app.logger.warning("a sender that cannot be answered")
    return "ok"
