"""Mistakes with the harness: each is told with what to do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from streams import ConfigurationError, Event, Pipeline, sync
from streams.errors import NotFound
from streams.testing import BlockingHarness, Harness
from tests.server.harness import bind as bind
from tests.server.harness import pipeline as pipeline

pytestmark = pytest.mark.anyio


async def test_mistakes_are_told(pipeline, bind):
    async with bind() as harness:
        with pytest.raises(ConfigurationError, match="no handler"):
            await harness.drain()
        for wrong in (0, -1, float("nan")):
            with pytest.raises(
                ConfigurationError,
                match="seconds of travel is a number of seconds above 0",
            ):
                await harness.travel(wrong)


async def test_a_name_that_is_spelled_wrongly_is_refused_with_those_that_there_are(
    server,
):
    pipeline = Pipeline()

    @pipeline.handler("orders", group="billing", types=["order.created"])
    async def handler(event: Event) -> None:
        await pipeline.publish("mails", {}, type="mail.wanted")

    async with Harness(pipeline, url=server.url) as harness:
        await pipeline.publish("orders", {}, type="order.created")
        await harness.drain()
        for asked in (harness.done, harness.failures):
            with pytest.raises(
                NotFound,
                match="no such stream with a handler: 'order'; there are orders",
            ):
                asked("order", "billing")
            with pytest.raises(
                NotFound, match="no such group of orders: 'biling'; there are billing"
            ):
                asked("orders", "biling")
            with pytest.raises(
                NotFound,
                match=r"no such event type of orders/billing: 'order\.paid'; there are order\.c",
            ):
                asked("orders", "billing", type="order.paid")
        with pytest.raises(NotFound, match="no such group of orders: 'biling'"):
            await harness.dead("orders", "biling")
        for stream, kind, known in (
            ("mail", None, "mails, orders"), ("order", None, "mails, orders"), ("mails", "mail.wnted", "mail.wanted"),
            ("orders", "order.create", "order.created"),
        ):  # fmt: skip
            with pytest.raises(NotFound, match=f"there are {known}$"):
                harness.published(stream, type=kind)
        assert (
            harness.published("invoices")
            == harness.published("mails", type="refund")
            == []
        )


def test_the_blocking_harness_refuses_the_same_and_travels_by_a_span(server):
    pipeline = sync.Pipeline()

    @pipeline.handler("orders", group="billing")
    def handler(event: Event) -> None:
        """Handles it."""

    with BlockingHarness(pipeline, url=server.url) as harness:
        pipeline.publish("orders", {}, type="order.created", delay=timedelta(hours=1))
        assert harness.drain() == 0
        harness.travel(timedelta(hours=1, seconds=1))
        assert harness.drain() == 1
        for ask in (harness.done, harness.failures, harness.dead):
            with pytest.raises(
                NotFound, match="no such group of orders: 'biling'; there are billing"
            ):
                ask("orders", "biling")
        with pytest.raises(NotFound, match="no such stream: 'order'"):
            harness.published("order")
        for wrong in (0, -1, 1e18, timedelta(0), "1"):
            with pytest.raises(
                ConfigurationError,
                match="seconds of travel is a number of seconds above 0, up to 1e",
            ):
                harness.travel(wrong)
