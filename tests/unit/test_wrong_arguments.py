"""Whatever a page shows is called with wrong arguments: the answer names the argument, and is of our own tree."""

from __future__ import annotations

import asyncio
import inspect
import re
import typing
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta

import pytest

import streams
import streams.middleware
import streams.sync
import streams.testing
import streams.whatsapp as whatsapp
from streams import (
    Broker,
    Cancellations,
    ConfigurationError,
    Consumer,
    ConsumerOptions,
    DeadLetters,
    Erasure,
    Event,
    Filter,
    Groups,
    Lanes,
    Levels,
    Limit,
    Limits,
    OrderedKeys,
    Partitions,
    Pauses,
    Pipeline,
    Producer,
    ProducerOptions,
    Reclaimer,
    ReclaimerOptions,
    Records,
    Reject,
    Retry,
    Scheduler,
    Settings,
    Snooze,
    Status,
    StreamsError,
    Throttle,
    Tracking,
    Unavailable,
)
from streams.events.event import EventAttributes
from streams.handlers.registry import HandlerOptions
from streams.middleware import Breaker, Chain, Dedupe, ErrorRules, Skip, Timeout
from streams.testing import BlockingHarness, Harness, harness
from tests.wrong import walk

URL = "memory://"
WEIGHTS = {0: 1, 1: 1, 5: 1, 10: 1}
HANDLER = {
    "types": ["a"], "retry": Retry(), "timeout": 1.0, "lease": 1.0, "concurrency": 1,
    "limits": [Limit("key", rate="1/s")],
    "order_by": "key", "on_dead": "continue", "fair_by": "tenant", "fair_weights": {"a": 1}, "start": "new",
}  # fmt: skip
EVENT = {
    "id": "a", "priority": 1, "delay": 1, "dedup_id": "a", "expires": 1, "key": "a", "tenant": "a", "instance": "a",
    "source": "a", "time": "2026-01-31T12:00:00Z", "subject": "a", "datacontenttype": "application/json",
    "dataschema": "a",
    "traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "a", "max_retries": 1, "retry_delay": 1,
    "version": "1", "headers": {"a": 1},
}  # fmt: skip


def declare(stream, group, function, **options):
    pipeline = Pipeline(URL)
    pipeline.handler(stream, group=group, **options)(function)
    return pipeline.plans


def declare_stream(**options):
    pipeline = Pipeline(URL)
    pipeline.stream(**options)
    return pipeline.plans


def upcaster(function, **options):
    return Pipeline(URL).upcaster(**options)(function)


def settings(**given):
    return Pipeline(settings=Settings(**given))


def views():
    """Everything that is made of a broker."""
    broker = Broker(URL)
    for made in (Cancellations, Groups, Pauses, Erasure):
        yield made, {"broker": broker, "stream": "s", "by": "a", "partition": 0}
    for made in (DeadLetters, Limits, OrderedKeys):
        yield (
            made,
            {"broker": broker, "stream": "s", "group": "g", "by": "a", "partition": 0},
        )
    yield Records, {"broker": broker, "stream": "s", "kind": "k"}
    yield Status, {"broker": broker}
    yield (
        Tracking,
        {"broker": broker, "stream": "s", "ranks": {"a": 1}, "retention": 10},
    )
    yield Producer, {"broker": broker, "stream": "s", "options": ProducerOptions()}
    yield Scheduler, {"broker": broker, "stream": "s", "levels": Levels()}
    yield (
        Reclaimer,
        {
            "broker": broker,
            "stream": "s",
            "group": "g",
            "retry": Retry(),
            "options": ReclaimerOptions(),
        },
    )
    yield (
        Consumer,
        {
            "broker": broker,
            "stream": "s",
            "group": "g",
            "handler": print,
            "options": ConsumerOptions(),
        },
    )


def doors():
    """What pages call, with arguments that it takes."""
    yield (
        declare,
        {"stream": "s", "group": "g", "function": lambda event: None, **HANDLER},
    )
    yield declare_stream, {
        "stream": "s", "retention": "fanout", "groups": ["a"], "weights": WEIGHTS, "max_wait": 1.0, "partitions": 1
    }  # fmt: skip
    yield (
        upcaster,
        {
            "type": "a",
            "from_version": "1",
            "to_version": "2",
            "function": lambda data: data,
        },
    )
    yield (
        settings,
        {field.name: field.default for field in fields(Settings)} | {"url": URL},
    )
    yield Pipeline, {"url": URL, "settings": Settings(), "middleware": []}
    yield streams.sync.Pipeline, {"url": URL, "settings": Settings(), "middleware": []}
    yield Broker, {"url": URL, "namespace": "a", "timeout": 1, "url_file": ""}
    yield ConsumerOptions, {
        "levels": Levels(), "concurrency": 1, "lease": 1.0, "cancel_grace": 1.0, "max_event_bytes": 1, "name": "x",
        "middleware": (), "weights": WEIGHTS, "max_wait": 1.0, "serve": Levels([0]),
    }  # fmt: skip
    yield (
        ReclaimerOptions,
        {
            "levels": Levels(),
            "lease": 1.0,
            "interval": 1.0,
            "silence": 1.0,
            "name": "x",
        },
    )
    yield (
        ProducerOptions,
        {
            "levels": Levels(),
            "max_len": 1,
            "max_event_bytes": 1,
            "dedup_window": 1,
            "retry_for": 1,
        },
    )
    yield from views()
    yield Event, {"type": "a", "data": 1, **EVENT}
    yield Retry, {
        "max_retries": 1, "delay": 1, "backoff": "fixed", "max_delay": 1, "jitter": 0.1, "retry_on": (ValueError,),
        "reject_on": (KeyError,),
    }  # fmt: skip
    yield Limit, {"by": "key", "rate": "1/s", "burst": 1, "concurrency": 1, "name": "a"}
    yield Levels, {"levels": [1]}
    yield Partitions, {"count": 1, "by": "key"}
    yield (
        Lanes,
        {"order_by": ("key",), "fair_by": (), "on_dead": "continue", "weights": {}},
    )
    yield (
        Filter,
        {
            "type": "a",
            "reason": "stalled",
            "error": "a",
            "level": 1,
            "since": 1.0,
            "until": 1.0,
            "text": "a",
        },
    )
    yield Snooze, {"seconds": 1, "reason": "a"}
    yield Throttle, {"limit": "a", "seconds": 1, "key": "a"}
    yield Unavailable, {"message": "a", "retry_after": 1}
    yield Reject, {"reason": "a"}
    yield Skip, {"reason": "a"}
    yield (
        Breaker,
        {"by": "key", "failures": 0.5, "minimum": 1, "window": 1, "open_for": 1},
    )
    yield Dedupe, {"window": 1, "busy": 1}
    yield Timeout, {"seconds": 1, "types": {"a": 1}}
    yield ErrorRules, {
        "retry": [ValueError], "reject": [KeyError], "snooze": {OSError: 1}, "retry_after": {TimeoutError: 1}
    }  # fmt: skip
    yield Chain, {"middleware": []}
    yield harness, {"pipeline": Pipeline(URL), "url": URL, "namespace": "a"}
    yield Harness, {"pipeline": Pipeline(URL), "url": URL, "namespace": "a"}
    yield (
        BlockingHarness,
        {"pipeline": streams.sync.Pipeline(URL), "url": URL, "namespace": "a"},
    )


def messages():
    """The contents of messages, and how they are sent."""
    link = {"link": "https://example.com/a"}
    yield whatsapp.Text, {"text": "a", "preview_url": False}
    yield whatsapp.Audio, link
    yield whatsapp.Image, {**link, "caption": "a"}
    yield whatsapp.Video, {**link, "caption": "a"}
    yield whatsapp.Document, {**link, "caption": "a", "filename": "a"}
    yield whatsapp.Buttons, {"text": "a", "buttons": {"a": "b"}, "footer": ""}
    yield (
        whatsapp.Choices,
        {
            "text": "a",
            "button": "b",
            "sections": {"a": [whatsapp.Row("a", "b")]},
            "footer": "",
        },
    )
    yield whatsapp.Contacts, {"contacts": [{"name": {"formatted_name": "a"}}]}
    yield whatsapp.Location, {"latitude": 1, "longitude": 1, "name": "", "address": ""}
    yield whatsapp.Reaction, {"message_id": "a", "emoji": "b"}
    yield whatsapp.Recipient, {"phone": "+5511987654321", "bsuid": ""}
    yield whatsapp.Row, {"id": "a", "title": "b", "description": ""}
    yield whatsapp.Template, {"name": "a", "language": "pt_BR", "components": ()}
    yield whatsapp.WhatsAppSettings, {
        "provider": "sandbox", "rate": "60/s", "burst": 1, "concurrency": 1, "timeout": 1, "max_retries": 1,
        "retry_delay": 1, "unknown_policy": "fail", "retention": 100_000,
    }  # fmt: skip


DOORS = [*doors(), *messages()]


@pytest.mark.parametrize(
    ("call", "valid"), DOORS, ids=[call.__name__ for call, _ in DOORS]
)
def test_a_wrong_argument_gets_a_sentence(call, valid):
    call(**valid)
    assert list(walk(call, valid)) == []


def test_nothing_that_is_made_of_arguments_is_left_out():
    known = {call for call, _ in DOORS}
    given_by_us = {  # What the product makes, for callers to read.
        streams.DeadLetter, streams.Erased, streams.OrderedKey, streams.Pause, streams.Reason, streams.Reasons,
        streams.Receipt, streams.Tracked, streams.AttemptRecord,
    }  # fmt: skip
    made = {
        found
        for name in streams.__all__
        if inspect.isclass(found := getattr(streams, name))
    }
    errors = {found for found in made if issubclass(found, StreamsError)}
    # Looked at by ``checked_decision``, each time.
    decided = {streams.RetryPolicy, streams.RetryIn, streams.Bury}
    # Walked by ``settings``.
    takes_none = {streams.Guest}
    assert made - errors - given_by_us - decided - known - takes_none == {Settings}
    assert set(HANDLER) == set(HandlerOptions.__annotations__)
    assert set(EVENT) == set(EventAttributes.__annotations__)


def test_every_argument_that_is_shown_may_be_given_by_its_name():
    for name in streams.__all__:
        shown = getattr(streams, name)
        if inspect.isclass(shown) and (
            is_dataclass(shown) or shown in (Event, Levels, Snooze, Throttle, Reject)
        ):
            kinds = [
                parameter.kind
                for parameter in inspect.signature(shown).parameters.values()
            ]
            assert inspect.Parameter.POSITIONAL_ONLY not in kinds, name
    event = Event(type="order.created", data={"id": 1}, key="42")
    assert (event.type, event.data, event.key) == ("order.created", {"id": 1}, "42")


def test_an_error_names_the_argument_and_what_it_takes():
    said = {
        lambda: ErrorRules(
            reject=ValueError
        ): "reject is a list, e.g. reject=[ValueError], not <class 'ValueError'>",
        lambda: ErrorRules(
            snooze=[OSError]
        ): "snooze is a dictionary, e.g. snooze={TimeoutError: 30}",
        lambda: Retry(
            delay="5"
        ): "Retry.delay is a number of seconds from 0 to 1e+09, or a timedelta, not '5'",
        lambda: Settings(
            lease=0.1
        ): "lease is a number of seconds from 0.3 to 86400, or a timedelta, not 0.1",
        lambda: Settings(
            concurrency=0
        ): "concurrency is an integer from 1 to 100000, not 0",
        lambda: Settings(
            wait="later"
        ): "wait is one of never, server, always, not 'later'",
        lambda: Pipeline(settings={}): "settings is a Settings",
        lambda: Pipeline(
            middleware=Timeout(1)
        ): "middleware is a list, e.g. middleware=[Context()]",
        lambda: Snooze(datetime(2030, 1, 1)): "which has no zone",  # noqa: DTZ001 - that is what is refused
        lambda: Event(
            "a",
            1,
            time=datetime(2030, 1, 1),  # noqa: DTZ001
        ): "time is a text or a datetime with a zone",
        lambda: Event(
            "a", 1, headers=["trial"]
        ): "headers is a dictionary, e.g. headers={'trial': True}",
        lambda: Consumer(None, "s", "g", print): "broker is a Broker",
    }
    for call, sentence in said.items():
        with pytest.raises(ConfigurationError, match=re.escape(sentence)):
            call()


def test_spans_are_taken_as_seconds_or_as_what_the_standard_library_has_for_them():
    minute = timedelta(minutes=1)
    assert (Retry(delay=minute).delay, Retry(max_delay=minute).max_delay) == (60, 60)
    assert Snooze(minute).seconds == 60 == Throttle("tenant", minute).seconds
    assert str(Snooze(minute, "busy")) == "snoozed for 60 s: busy"
    assert Unavailable("away", minute).retry_after == 60
    assert Timeout(minute, types={"a": minute}).timeouts() == {None: 60, "a": 60}
    assert (Dedupe(minute).window, Settings(lease=minute).lease) == (60, 60)
    ahead = datetime.now(UTC) + timedelta(hours=1)
    assert 3590 < Snooze(ahead).seconds <= 3600
    assert Snooze(datetime(2020, 1, 1, tzinfo=UTC)).seconds == 0
    assert Event("a", 1, retry_delay=minute).meta == {"retry_delay": 60}
    assert (
        Event("a", 1, time=datetime(2030, 1, 2, tzinfo=UTC)).time
        == "2030-01-02T00:00:00+00:00"
    )
    plan = declare("s", "g", lambda event: None, timeout=minute, lease=minute)[0]
    assert (plan.lease, plan.router.find("a").timeout) == (60, 60)


@pytest.mark.parametrize("asked", [timedelta(seconds=7), 7, "7"])
def test_an_exception_may_ask_for_its_retry_by_a_span(asked):
    error = ConnectionError("away")
    error.retry_after = asked
    assert (
        Retry()
        .after_failure(error, streams.policy.retry.AttemptRecord(failures=1))
        .delay
        == 7
    )


def test_the_wrong_kind_of_with_block_says_which_one_is_right():
    blocking = streams.sync.Pipeline(URL)
    for awaited in (Pipeline(URL), Harness(Pipeline(URL))):
        with (
            pytest.raises(
                ConfigurationError, match="open it with 'async with', not with 'with'"
            ),
            awaited,
        ):
            pass

    async def enter(blocks):
        async with blocks:
            pass

    for blocks in (blocking, BlockingHarness(blocking)):
        with pytest.raises(
            ConfigurationError, match="open it with 'with', not with 'async with'"
        ):
            asyncio.run(enter(blocks))


def test_annotations_that_callers_are_held_to_can_be_read():
    """A name that only type checkers import would come up in the first call."""
    kinds = (
        Cancellations,
        DeadLetters,
        Erasure,
        Groups,
        Limits,
        OrderedKeys,
        Pauses,
        Records,
        Status,
        Tracking,
    )
    for kind in kinds:
        public = [
            member for name, member in vars(kind).items() if not name.startswith("_")
        ]
        held = [member for member in public if inspect.isfunction(member)]
        assert held
        for method in held:
            assert typing.get_type_hints(inspect.unwrap(method))
            assert hasattr(method, "__wrapped__"), method
