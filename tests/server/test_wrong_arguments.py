"""The methods of an open pipeline with wrong arguments: the answer is of our own tree, and the pipeline goes on."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from streams import ConfigurationError, Event, Filter, Settings
from streams.events.event import EventAttributes
from streams.sync import Pipeline
from tests.unit.test_wrong_arguments import EVENT
from tests.wrong import walk


@pytest.fixture
def pipeline(server, namespace):
    with Pipeline(server.url, settings=Settings(namespace=namespace)) as pipeline:
        pipeline.publish("orders", {"id": 1}, type="order.created")
        yield pipeline


def methods(pipeline):
    """Methods that take arguments, with some that they take; those that come last change the most."""
    status, pauses, limits = (
        pipeline.status(),
        pipeline.pauses("orders"),
        pipeline.limits("orders", "billing"),
    )
    letters, cancellations = (
        pipeline.dead_letters("orders", "billing"),
        pipeline.cancellations("orders"),
    )
    keys, tracking = (
        pipeline.ordered_keys("orders", "billing"),
        pipeline.tracking("orders", {"sent": 1}, 60),
    )
    yield pipeline.publish, {"stream": "orders", "data": {"id": 1}, "type": "t"}
    yield pipeline.publish_many, {"stream": "orders", "events": [1], "type": "t"}
    yield (
        pipeline.dead_letters,
        {"stream": "orders", "group": "billing", "by": "a", "partition": 0},
    )
    yield pipeline.tracking, {"stream": "orders", "ranks": {"sent": 1}, "retention": 60}
    yield (
        pipeline.why,
        {
            "stream": "orders",
            "event": None,
            "level": None,
            "group": "",
            "partition": None,
        },
    )
    yield pipeline.why, {"stream": "orders", "key": "a"}
    yield pipeline.why, {"stream": "orders", "tenant": "a"}
    yield status.stream, {"name": "orders", "partition": None}
    yield status.existing, {"stream": "orders"}
    yield status.levels, {"stream": "orders"}
    yield (
        status.find,
        {
            "stream": "orders",
            "ident": "nothing",
            "group": "",
            "depth": 10,
            "partition": None,
        },
    )
    yield pauses.pause, {"group": "billing", "level": 0, "reason": "a"}
    yield pauses.pause, {"tenant": "a"}
    yield pauses.resume, {"group": "billing", "level": 0}
    yield limits.set, {"name": "tenant", "rate": "1/s", "burst": 1, "key": "a"}
    yield limits.throttle, {"name": "tenant", "key": "a", "seconds": 1}
    yield limits.reset, {"name": "tenant", "key": "a"}
    yield limits.waiting, {"limit": 5}
    yield letters.page, {"where": None, "after": "", "limit": 5}
    yield letters.look, {"where": None, "after": "", "limit": 5, "examine": 5}
    yield letters.show, {"letter_id": "1-0"}
    yield letters.count_matching, {"where": Filter(), "most": 5}
    yield letters.replay, {"which": ["1-0"], "dry_run": True, "rate": None, "limit": 1}
    yield letters.discard, {"which": ["1-0"], "dry_run": True}
    yield letters.replay_edited, {"letter_id": "1-0", "data": 1}
    yield lambda **given: list(letters.iterate(**given)), {"where": None, "after": ""}
    yield lambda **given: list(letters.export(**given)), {"where": None}
    yield lambda **given: list(letters.latest(**given)), {"most": 5}
    yield cancellations.cancel, {"id": "nothing", "group": ""}
    yield cancellations.cancel_many, {"ids": ["nothing"], "group": ""}
    yield keys.list, {"limit": 5, "state": "held"}
    yield keys.release, {"key": "a"}
    yield keys.skip, {"key": "a"}
    yield (
        tracking.note,
        {"id": "a", "state": "sent", "facts": {"a": 1}, "fields": {"a": "b"}},
    )
    yield tracking.get, {"id": "a"}
    yield tracking.link, {"name": "a", "id": "b"}
    yield tracking.linked, {"name": "a"}
    yield tracking.file, {"name": "a", "id": "b"}
    yield tracking.filed, {"name": "a", "most": 5}
    yield tracking.counted, {"names": ["a"]}
    yield tracking.forget, {"ids": ["a"], "links": ["a"], "files": ["a"]}
    yield pipeline.groups("orders").drop, {"group": "nothing", "force": False}


def test_a_wrong_argument_gets_a_sentence(pipeline):
    said = [
        f"{method.__qualname__}: {line}"
        for method, valid in methods(pipeline)
        for line in walk(method, valid)
    ]
    assert said == []


def test_a_wrong_attribute_gets_a_sentence(pipeline):
    for name in EventAttributes.__annotations__:
        own = {"id": "a"} if name == "id" else {name: EVENT[name]}
        assert (
            list(
                walk(
                    lambda **given: pipeline.publish("orders", 1, type="t", **given),
                    own,
                )
            )
            == []
        )
        assert (
            list(
                walk(
                    lambda **given: pipeline.publish_many(
                        "orders", [1, 2], type="t", **given
                    ),
                    own,
                )
            )
            == []
        )
        assert (
            list(
                walk(
                    lambda **given: pipeline.publish("orders", Event("t", 1, **given)),
                    own,
                )
            )
            == []
        )


def test_when_an_event_enters_its_stream_is_a_number_a_span_or_a_moment(pipeline):
    hour = timedelta(hours=1)
    for when in (3600, hour, datetime.now(UTC) + hour):
        for receipt in (
            pipeline.publish("later", 1, type="t", delay=when, expires=when),
            *pipeline.publish_many("later", [1], type="t", delay=when),
            *pipeline.publish_many("later", [Event("t", 1, delay=when)]),
            pipeline.publish("later", Event("t", 1, delay=when), ),
            pipeline.publish("later", 1, type="t", delay=when, dedup_id=repr(when)),
        ):  # fmt: skip
            assert receipt.entry_id == ""
            [found] = pipeline.status().find("later", receipt.event_id)
            assert (
                found.state,
                3500 < found.due - datetime.now(UTC).timestamp() <= 3600.5,
            ) == ("scheduled", True)
    over = datetime(2020, 1, 1, tzinfo=UTC)
    assert pipeline.publish("later", 1, type="t", delay=over).entry_id
    refused = "delay is a number of seconds from 0 to 1e+10, or a timedelta or a datetime with a zone"
    for wrong in (datetime(2030, 1, 1), "5", True, -1):  # noqa: DTZ001 - that is what is refused
        with pytest.raises(ConfigurationError, match=re.escape(refused)):
            pipeline.publish("later", 1, type="t", delay=wrong)
        with pytest.raises(ConfigurationError, match="expires is a number of seconds"):
            pipeline.publish("later", 1, type="t", expires=wrong)


@pytest.mark.parametrize(
    "keywords",
    [
        {"delay": 60.0},
        {"dedup_id": "d"},
        {"priority": 5, "tenant": "acme"},
        {"key": "k", "headers": {"trial": True}},
        {"type": "order.created"},
    ],
    ids=",".join,
)
def test_keywords_beside_an_event_are_refused_and_not_lost(pipeline, keywords):
    """Without a sentence the event would be stored without its delay, and twice without its ``dedup_id``."""
    event = Event("order.created", {"id": 2})
    named = (
        ", ".join(f"{name}=" for name in keywords)
        + r" cannot be given beside an Event: .* in the Event itself"
    )
    with pytest.raises(ConfigurationError, match=named):
        pipeline.publish("orders", event, **keywords)
    with pytest.raises(ConfigurationError, match=named):
        pipeline.publish_many("orders", [event, event], **keywords)
    asynchronous = pipeline.portal.call
    with pytest.raises(ConfigurationError, match=named):
        asynchronous(lambda open_: open_.publish("orders", event, **keywords))
    with pytest.raises(ConfigurationError, match=named):
        asynchronous(
            lambda open_: open_.publish_many("orders", iter([event]), **keywords)
        )
    assert pipeline.status().stream("orders").stored == 1


def test_an_event_among_bodies_is_refused_beside_their_keywords(pipeline):
    with pytest.raises(
        ConfigurationError, match="delay= cannot be given beside an Event"
    ) as caught:
        pipeline.publish_many(
            "orders",
            [{"id": 2}, Event("order.created", {"id": 3})],
            type="t",
            delay=60.0,
        )
    assert list(caught.value.outcome.receipts) == [0]


def test_an_unknown_keyword_beside_an_event_is_called_unknown(pipeline):
    with pytest.raises(ConfigurationError, match="no attribute 'delayed'"):
        pipeline.publish("orders", Event("order.created", {"id": 2}), delayed=60.0)


@pytest.mark.parametrize(
    "events", [{"id": 1}, "orders", b"orders", None, 7, Event("t", 1)], ids=repr
)
def test_one_body_in_place_of_many_is_refused_and_nothing_is_published(
    pipeline, server, namespace, events
):
    with pytest.raises(
        ConfigurationError,
        match=r"^events is a list or another iterable .* publish takes one$",
    ):
        pipeline.publish_many("other", events, type="t")
    assert "other" not in pipeline.status().streams()
    assert len(pipeline.publish_many("other", (n for n in range(3)), type="t")) == 3


def test_an_event_that_breaks_the_rules_of_today_is_read_and_published_again(pipeline):
    old = Event("t", "one")
    old.meta = {
        "time": "yesterday",
        "traceparent": "x",
        "tenant": "",
        "datacontenttype": "",
        "subject": "x" * 900,
    }
    receipt = pipeline.publish("orders", old)
    [found] = pipeline.status().find("orders", receipt.event_id)
    assert found.meta == old.meta
    again = Event("t", found.raw.decode(), id=found.event_id)
    again.meta = found.meta
    assert pipeline.publish("orders", again).event_id == receipt.event_id
