"""Upcasters: which are taken, in what order they run, and what becomes of one that fails."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import ConfigurationError, InvalidData
from streams.events.codec import decode, encode_body, encode_meta
from streams.events.event import Event
from streams.handlers.routes import Route, Router
from streams.handlers.upcasters import Upcasters


@dataclasses.dataclass
class Order:
    id: int
    total: int = 0


def received(data: Any, version: str | None = None) -> Event[Any]:
    meta = {} if version is None else {"version": version}
    return decode(
        [
            b"type",
            b"order",
            b"id",
            b"1",
            b"data",
            encode_body(data),
            b"meta",
            encode_meta(meta),
        ]
    )


def prepared(
    upcasters: Upcasters, event: Event[Any], handler=lambda event: None
) -> Event[Any]:
    route = Router([Route(handler)]).with_upcasters(upcasters).find(event.type)
    if route.prepare is not None:
        route.prepare(event)
    return event


@pytest.mark.parametrize(
    ("version", "path", "reached"),
    [
        (None, ["a", "b", "c"], "3"),
        ("1", ["b", "c"], "3"),
        ("2", ["c"], "3"),
        ("3", [], "3"),
        ("9", [], "9"),
    ],
)
def test_they_are_chained_until_none_is_left(version, path, reached):
    upcasters = Upcasters()
    upcasters.add("order", "2", "3", lambda data: [*data, "c"])
    upcasters.add("order", None, "1", lambda data: [*data, "a"])
    upcasters.add("order", "1", "2", lambda data: [*data, "b"])
    upcasters.add("other", "3", "4", lambda data: [*data, "no"])
    event = prepared(upcasters, received([], version))
    assert (event.data, event.version, event.raw) == (path, reached, b"[]")


def test_a_type_without_upcasters_keeps_its_route():
    upcasters = Upcasters()
    route, other = (
        Route(lambda event: None, types=["order"]),
        Route(lambda event: None, types=["paid"]),
    )
    router = Router([route, other])
    assert router.with_upcasters(upcasters) is router
    upcasters.add("nobody", "1", "2", lambda data: data)
    assert router.with_upcasters(upcasters) is router
    upcasters.add("order", "1", "2", lambda data: data)
    served = router.with_upcasters(upcasters)
    assert served.find("paid") is other
    assert served.find("paid").prepare is None
    assert served.find("nobody") is None
    assert served.find("order").prepare is not None
    assert router.find("order").prepare is None


def test_upcasters_come_before_the_type_and_their_result_is_validated():
    def handler(event) -> None: ...

    handler.__annotations__["event"] = Event[Order]
    upcasters = Upcasters()
    upcasters.add(
        "order",
        "1",
        "2",
        lambda data: {"id": data["number"], "total": data.get("total", "5")},
    )
    event = prepared(upcasters, received({"number": 1}, "1"), handler)
    assert (event.data, event.version) == (Order(1, 5), "2")
    assert prepared(upcasters, received({"id": 2}, "2"), handler).data == Order(2)
    with pytest.raises(InvalidData, match=r"total: .*int_parsing") as caught:
        prepared(upcasters, received({"number": 1, "total": "hush"}, "1"), handler)
    assert "hush" not in str(caught.value)
    with pytest.raises(InvalidData, match="cannot be written as JSON"):
        prepared(_only(lambda data: object()), received({}, "1"), handler)


def _only(function) -> Upcasters:
    upcasters = Upcasters()
    upcasters.add("order", "1", "2", function)
    return upcasters


def test_one_that_raises_or_forgets_to_return_is_named():
    def raising(data):
        raise KeyError("total of +49 170 1234567")

    with pytest.raises(
        InvalidData, match="from version 1 to 2 raised KeyError: 'total of"
    ) as caught:
        prepared(_only(raising), received({}, "1"))
    assert "1234567" not in str(caught.value)
    with pytest.raises(InvalidData, match="from version 1 to 2 returned nothing"):
        prepared(_only(lambda data: data.update(a=1)), received({}, "1"))
    assert prepared(_only(lambda data: data), received(None, "1")).version == "2"


async def asynchronous(data):
    return data


def generator(data):
    yield data


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("order", "1", "2", asynchronous), "plain function"),
        (("order", "1", "2", generator), "plain function"),
        (("order", "1", "2", "function"), "not str"),
        (("order", "1", "2", lambda: 1), "with the data alone"),
        (("order", "1", "2", lambda a, b: 1), "with the data alone"),
        (("order", 1, "2", dict), "from_version is a text"),
        (("order", "1", None, dict), "to_version is a text"),
        (("order", "", "2", dict), "from_version"),
        (("", "1", "2", dict), "upcaster: type is a text of 1 to 200"),
        (("order", "1", "1", dict), "circle: 1 -> 1"),
        (("order", "1", "5", dict), "'1' to '2' already"),
    ],
)
def test_what_is_refused_at_declaration(arguments, words):
    upcasters = Upcasters()
    if words.endswith("already"):
        upcasters.add("order", "1", "2", dict)
    with pytest.raises(ConfigurationError, match=words):
        upcasters.add(*arguments)


def test_circles_are_refused_and_leave_nothing_behind():
    upcasters = Upcasters()
    upcasters.add("order", "1", "2", dict)
    upcasters.add("order", "2", "3", dict)
    with pytest.raises(ConfigurationError, match="circle: 3 -> 1 -> 2 -> 3"):
        upcasters.add("order", "3", "1", dict)
    upcasters.add("other", "3", "1", dict)
    upcasters.add("order", "3", "4", dict)


@given(
    st.lists(
        st.tuples(st.sampled_from([None, *"abcdef"]), st.sampled_from("abcdef")),
        max_size=30,
    )
)
def test_whatever_is_accepted_ends(steps):
    upcasters = Upcasters()
    taken = {}
    for source, target in steps:
        try:
            upcasters.add("order", source, target, lambda data: data + 1)
        except ConfigurationError:
            continue
        assert source not in taken
        taken[source] = target
    for start in (None, *"abcdef"):
        event = prepared(upcasters, received(0, start))
        assert event.version not in taken
        assert event.data <= len(taken)
