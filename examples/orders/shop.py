"""A shop that charges orders: the pipeline of ``streams demo``, and a start for one of your own.

    streams worker examples/orders/shop.py:pipeline

Every charge appends one line to a ledger file, an effect outside of the server, so that it can be counted afterwards.
"""

import asyncio
import json
import os

from streams import Event, Pipeline, Reject, Retry

pipeline = Pipeline.from_env()
LEDGER = os.environ.get("SHOP_LEDGER", "ledger.jsonl")


class ProviderBusyError(Exception):
    """The payment provider asks to come back."""


class CardRefusedError(Exception):
    """The payment provider does not take this card today."""


@pipeline.handler(
    "orders",
    group="billing",
    types=["order.created"],
    retry=Retry(max_retries=3, delay=0.4),
    timeout=10.0,
)
async def charge(event: Event) -> None:
    """Charge one order. Raising means: try again; ``Reject`` means: never."""
    order = event.data
    if order["total"] <= 0:
        raise Reject(f"order {order['order']} has a total of {order['total']}")
    await asyncio.sleep(order["takes_ms"] / 1000)  # the payment provider
    if order["card"] == "busy" and event.attempt == 1:
        raise ProviderBusyError("too many requests, come back later")
    if order["card"] == "refused":
        raise CardRefusedError(f"the bank refused the card of {order['phone']}")
    write_to_ledger(event)


def write_to_ledger(event: Event) -> None:
    """Append one line. One write to a file opened for appending: lines of several workers do not mix."""
    line = {
        "event_id": event.id,
        "entry": f"{event.priority}|{event.entry_id}",
        "level": event.priority,
        "attempt": event.attempt,
        "worker": os.getpid(),
    }
    ledger = os.open(LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(ledger, json.dumps(line).encode() + b"\n")
    finally:
        os.close(ledger)
