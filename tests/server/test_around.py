"""What a middleware puts around a handler is entered where the handler runs, and slots of plain handlers are fewer."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from streams import (
    Consumer,
    ConsumerOptions,
    Event,
    Pipeline,
    Producer,
    Retry,
    Settings,
)
from streams.handlers.routes import Route
from streams.middleware import Context, Middleware
from tests.conftest import eventually
from tests.server.consuming import consuming, dead, letters

ONCE = Retry(max_retries=0)


class Around(Middleware):
    """Notes in which thread it is entered and left, and with what error."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.log: list[tuple] = []
        self.fails: Exception | None = None

    def around(self, attempt):
        if attempt.event.data == "nothing":
            return None
        return self._plain(attempt)

    @contextlib.contextmanager
    def _plain(self, attempt):
        self.log.append(("in", self.name, threading.get_ident()))
        if self.fails:
            raise self.fails
        try:
            yield
        except BaseException as error:
            self.log.append(("raised", self.name, type(error).__name__))
            raise
        finally:
            self.log.append(("out", self.name, threading.get_ident()))


class Both(Around):
    """Is entered as an asynchronous one where it can be."""

    def around(self, attempt):
        keeper = self

        class Entered(contextlib.ContextDecorator):
            def __enter__(self):
                keeper.log.append(("plain", threading.get_ident()))

            def __exit__(self, *_):
                return None

            async def __aenter__(self):
                await asyncio.sleep(0)
                keeper.log.append(("awaited", threading.get_ident()))

            async def __aexit__(self, *_):
                return None

        return Entered()


async def ran(broker, function, *middleware, data: object = 1, n: int = 1) -> Consumer:
    async with consuming(
        broker, Route(function, retry=ONCE), middleware=middleware
    ) as consumer:
        await Producer(broker, "s").publish_many([data] * n, type="t")
        await eventually(
            lambda: consumer.stats.done + consumer.stats.dead == n, what="the outcomes"
        )
        return consumer


async def test_a_plain_handler_and_what_surrounds_it_have_one_thread(broker):
    seen = []
    outer, inner = Around("outer"), Around("inner")

    def handler(event: Event) -> None:
        seen.append(threading.get_ident())

    await ran(broker, handler, outer, Context(), inner)
    assert [entry[0] for entry in outer.log] == ["in", "out"]
    assert {entry[2] for entry in (*outer.log, *inner.log)} == set(seen)
    assert seen != [threading.get_ident()]


async def test_an_asynchronous_handler_has_it_in_the_event_loop(broker):
    around, both = Around(), Both()

    async def handler(event: Event) -> None:
        await asyncio.sleep(0)

    await ran(broker, handler, around, both)
    assert [entry[2] for entry in around.log] == [threading.get_ident()] * 2
    assert both.log == [("awaited", threading.get_ident())]


async def test_what_is_both_is_entered_as_what_fits(broker):
    both = Both()

    def handler(event: Event) -> None:
        both.log.append(("handler", threading.get_ident()))

    await ran(broker, handler, both)
    assert [entry[0] for entry in both.log] == ["plain", "handler"]
    assert len({entry[1] for entry in both.log}) == 1


@pytest.mark.parametrize("plain", [True, False])
async def test_it_sees_what_the_handler_raises(broker, plain):
    def fails(event: Event) -> None:
        raise LookupError

    async def also_fails(event: Event) -> None:
        raise LookupError

    around = Around()
    await ran(broker, fails if plain else also_fails, around)
    assert [entry[0] for entry in around.log] == ["in", "raised", "out"]
    assert around.log[1][2] == "LookupError"
    await eventually(dead(broker))


@pytest.mark.parametrize("plain", [True, False])
async def test_one_that_cannot_be_entered_fails_the_attempt(broker, plain):
    def never(event: Event) -> None:
        raise AssertionError("never")

    async def not_either(event: Event) -> None:
        raise AssertionError("never")

    around = Around()
    around.fails = OSError("no database")
    await ran(broker, never if plain else not_either, around)
    (letter,) = await letters(broker)
    assert letter.errors[-1]["message"] == "no database"


async def test_nothing_is_nothing(broker):
    around = Around()
    consumer = await ran(broker, lambda event: None, around, data="nothing")
    assert consumer.stats.done == 1
    assert around.log == []


def plain(event: Event) -> None:
    pass


async def awaited(event: Event) -> None:
    pass


@pytest.mark.parametrize(
    ("handler", "settings", "options", "slots"),
    [
        (awaited, Settings(), {}, 100), (plain, Settings(), {}, 32), (plain, Settings(concurrency=100), {}, 100),
        (plain, Settings(concurrency=7), {}, 7), (plain, Settings(), {"concurrency": 50}, 50),
        (awaited, Settings(concurrency=7), {"concurrency": 50}, 50),
    ],
)  # fmt: skip
def test_slots_where_nobody_says_a_number(handler, settings, options, slots):
    pipeline = Pipeline("memory://", settings=settings)
    pipeline.handler("s", group="g", **options)(handler)
    (plan,) = pipeline.plans
    assert plan.concurrency == slots


def test_slots_of_a_group_with_both_kinds_and_of_the_environment(tmp_path):
    pipeline = Pipeline("memory://")
    pipeline.handler("s", group="g", types=["a"])(awaited)
    pipeline.handler("s", group="g", types=["b"])(plain)
    assert pipeline.plans[0].concurrency == 32
    assert Settings().concurrency == 100
    for environ, slots in (({}, 32), ({"STREAMS_CONCURRENCY": "100"}, 100)):
        pipeline.settings = Settings.from_env(environ, tmp_path)
        assert pipeline.plans[0].concurrency == slots


async def test_slots_of_a_consumer_by_itself(broker):
    assert Consumer(broker, "s", "g", plain).options.concurrency == 32
    assert Consumer(broker, "s", "g", awaited).options.concurrency == 100
    assert (
        Consumer(
            broker, "s", "g", plain, ConsumerOptions(concurrency=100)
        ).options.concurrency
        == 100
    )
