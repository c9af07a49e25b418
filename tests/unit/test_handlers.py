"""Handlers: what can be one, where it runs, and which of them serves an event."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
import threading
from typing import Annotated, Any, Protocol, TypedDict

import pytest

from streams import Pipeline, Receipt
from streams.errors import ConfigurationError
from streams.events.event import Event
from streams.handlers.routes import Route, Router, as_router
from streams.policy.retry import Retry


@dataclasses.dataclass
class Order:
    id: int


class Movement(TypedDict):
    id: int


class Looks(Protocol):
    """What an event looks like."""

    data: Any


def where() -> str:
    return "loop" if threading.current_thread() is threading.main_thread() else "thread"


async def asynchronous(event):
    return where(), event.data


def plain(event):
    return where(), event.data


async def two_asynchronous(extra, event):
    return where(), event.data


def two_plain(extra, event):
    return where(), event.data


class Plain:
    def __call__(self, event):
        return where(), event.data

    def method(self, event):
        return where(), event.data

    @staticmethod
    def static(event):
        return where(), event.data

    @classmethod
    def of_class(cls, event):
        return where(), event.data


class Asynchronous:
    async def __call__(self, event):
        return where(), event.data

    async def method(self, event):
        return where(), event.data


CALLABLES = {
    "async def": (asynchronous, "loop"),
    "def": (plain, "thread"),
    "lambda": (lambda event: (where(), event.data), "thread"),
    "lambda around async": (lambda event: asynchronous(event), "loop"),
    "object": (Plain(), "thread"),
    "async object": (Asynchronous(), "loop"),
    "method": (Plain().method, "thread"),
    "async method": (Asynchronous().method, "loop"),
    "static method": (Plain.static, "thread"),
    "class method": (Plain.of_class, "thread"),
    "partial": (functools.partial(two_plain, 1), "thread"),
    "async partial": (functools.partial(two_asynchronous, 1), "loop"),
    "partial of async object": (functools.partial(Asynchronous()), "loop"),
    "partial of partial": (
        functools.partial(functools.partial(two_asynchronous, 1)),
        "loop",
    ),
    "default argument": (lambda event, more=1: (where(), event.data), "thread"),
    "any arguments": (lambda *events: (where(), events[0].data), "thread"),
    "keyword with default": (lambda event, *, more=1: (where(), event.data), "thread"),
}


@pytest.mark.parametrize("name", CALLABLES)
async def test_what_a_handler_can_be_and_where_it_runs(name):
    function, place = CALLABLES[name]
    assert await Route(function).call(Event("a", {"id": 1})) == (place, {"id": 1})


@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_what_a_handler_raises_comes_through(kind):
    async def asynchronous_failure(event):
        raise LookupError("here")

    def plain_failure(event):
        raise LookupError("here")

    with pytest.raises(LookupError, match="here"):
        await Route(
            asynchronous_failure if kind == "async def" else plain_failure
        ).call(Event("a", 1))


class Demanding:
    def __call__(self, event, more):
        """Takes two."""


async def takes_none():
    """Takes nothing."""


def takes_two(event, more):
    """Takes two."""


def takes_keyword(event, *, more):
    """Needs a keyword."""


def takes_only_keyword(*, event):
    """Takes its event by name."""


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (takes_none, "takes_none()"),
        (takes_two, "takes_two(event, more)"),
        (takes_keyword, "takes_keyword(event, *, more)"),
        (takes_only_keyword, "takes_only_keyword(*, event)"),
        (lambda: None, "<lambda>()"),
        (Demanding(), "Demanding object"),
        (functools.partial(two_plain), "two_plain"),
        (Plain.method, "Plain.method(self, event)"),
    ],
)
def test_a_handler_that_cannot_take_one_event_is_refused_by_name(function, name):
    with pytest.raises(
        ConfigurationError, match="cannot be called with one event"
    ) as caught:
        Route(function)
    assert name in str(caught.value)


def takes_one(event):
    """Takes one event."""


class Depends:
    """As FastAPI's and FastStream's."""


def takes_model(order: Order) -> None: ...


async def takes_body(body: dict, more: int) -> None: ...


def takes_resource(event: Event, session=Depends()) -> None: ...  # noqa: B008 - as there


def takes_annotated(
    event: Event, session: Annotated[object, Depends()] = None
) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (takes_model, "takes Order: a handler is given an Event, whose body is event.data; annotate the parameter as"),
        (lambda: None, "cannot be called with one event: it is given one Event and nothing else. Write async def"),
        (takes_body, "takes_body(body: 'dict', more: 'int') -> 'None' cannot be called with one event: it is given"),
        (takes_resource, "nothing fills its parameter 'session', as another framework does: it is given one Event"),
        (takes_annotated, "nothing fills its parameter 'session', as another framework does: it is given one Event"),
    ],
)  # fmt: skip
def test_a_handler_in_the_manner_of_another_framework_is_told_how_it_is_written_here(
    function, said
):
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        Route(function)


@pytest.mark.parametrize(
    "annotation",
    [dict, dict[str, Any], str, list[int], int, Movement, Order | None],
    ids=str,
)
def test_a_body_in_place_of_the_event_is_refused(annotation):
    def handle(body):
        """Takes what the test says."""

    handle.__annotations__["body"] = annotation
    with pytest.raises(
        ConfigurationError,
        match=r"a handler is given an Event, whose body is event\.data; annotate",
    ):
        Route(handle)


@pytest.mark.parametrize(
    "annotation",
    [Any, object, Event, Looks, Event | None, Annotated[Event, 1]],
    ids=str,
)
def test_what_an_event_may_be_called_is_taken(annotation):
    def handle(event):
        """Takes what the test says."""

    handle.__annotations__["event"] = annotation
    assert Route(handle).prepare is None


def test_what_celery_calls_a_handler_by_says_what_to_write():
    pipeline = Pipeline("memory://")
    handle: Any = pipeline.handler("orders", group="billing")(takes_one)
    for call in (handle.delay, handle.apply_async):
        with pytest.raises(
            AttributeError,
            match=r"handler takes_one has no .* pipeline\.publish\('orders'",
        ):
            call({"id": 1}, countdown=5)
    with pytest.raises(
        AttributeError,
        match=r"Pipeline has no attribute 'task': declare a handler: @pipeline\.handler",
    ):
        pipeline.task  # noqa: B018 - that is what is refused
    with pytest.raises(
        AttributeError,
        match=r"Receipt has no attribute 'get': a receipt says where the event is",
    ):
        Receipt("a", 0, "1-0").get()
    with pytest.raises(AttributeError, match=r"^a Pipeline has no attribute 'tusk'$"):
        pipeline.tusk  # noqa: B018 - that is what is refused
    assert not hasattr(Receipt("a", 0, "1-0"), "nothing")
    assert copy.copy(pipeline).plans == pipeline.plans


def test_a_name_that_a_handler_has_already_stays():
    def task(event):
        """Has a method of another library."""

    task.delay = own = object()
    Pipeline("memory://").handler("orders", group="billing")(task)
    assert task.delay is own


@pytest.mark.parametrize("thing", [None, "shop.charge", 5, ["charge"], {}])
def test_what_is_no_function_is_refused(thing):
    with pytest.raises(ConfigurationError, match=f"not {type(thing).__name__}"):
        Route(thing)


async def async_generator(event):
    yield event


def generator(event):
    yield event


class Generating:
    def __call__(self, event):
        yield event


@pytest.mark.parametrize(
    "function",
    [
        generator,
        async_generator,
        Generating(),
        functools.partial(generator),
        functools.partial(Generating()),
    ],
)
def test_a_generator_would_never_run_and_is_refused(function):
    with pytest.raises(ConfigurationError, match="is a generator"):
        Route(function)


# Options


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", 1e9])
def test_refused_timeouts(timeout):
    with pytest.raises(ConfigurationError, match="timeout"):
        Route(plain, timeout=timeout)


@pytest.mark.parametrize("timeout", [None, 0.001, 30, 30.5])
def test_allowed_timeouts(timeout):
    assert Route(plain, timeout=timeout).timeout == timeout


def test_types_as_a_text_are_refused_with_what_was_meant():
    with pytest.raises(ConfigurationError, match=r"types=\['order.created'\]"):
        Route(plain, types="order.created")


@pytest.mark.parametrize("types", [[], [1], [None], [b"a"]])
def test_types_that_no_event_has_are_refused(types):
    with pytest.raises(ConfigurationError, match="types"):
        Route(plain, types=types)


def test_types_may_be_any_iterable():
    for types in (["a", "b"], ("a", "b"), {"a", "b"}, iter(["a", "b", "a"])):
        assert Route(plain, types=types).types == {"a", "b"}


def test_the_default_retry():
    assert Route(plain).retry == Retry()
    assert Route(plain, retry=Retry(max_retries=9)).retry.max_retries == 9


# Routing


def test_routes_by_type_with_a_default():
    created, paid, other = (
        Route(plain, types=["created"]),
        Route(plain, types=["paid", "refunded"]),
        Route(plain),
    )
    router = Router([other, created, paid])
    assert router.find("created") is created
    assert router.find("paid") is router.find("refunded") is paid
    assert router.find("anything") is router.find("") is other
    assert set(router.routes()) == {created, paid, other}
    assert len(router.routes()) == 3


def test_without_a_default_a_foreign_type_has_no_route():
    router = Router([Route(plain, types=["a"], retry=Retry(max_retries=9))])
    assert router.find("b") is None
    assert router.find("A") is None
    assert router.retry_for("a").max_retries == 9
    assert router.retry_for("b") == Retry()
    assert Router().routes() == []


def test_two_handlers_for_every_type_are_refused():
    with pytest.raises(ConfigurationError, match="for every type already"):
        Router([Route(plain), Route(asynchronous)])


def test_the_same_type_twice_is_refused_by_name():
    router = Router([Route(plain, types=["a", "b"])])
    with pytest.raises(ConfigurationError, match="type 'b' already"):
        router.add(Route(asynchronous, types=["b", "c"]))


def test_a_refused_route_leaves_nothing_behind():
    first = Route(plain, types=["b"])
    router = Router([first])
    with pytest.raises(ConfigurationError):
        router.add(Route(asynchronous, types=["a", "b", "c"]))
    assert router.routes() == [first]
    assert router.find("a") is router.find("c") is None


def test_whatever_stands_for_a_router():
    router, route = Router([Route(plain)]), Route(plain)
    assert as_router(router) is router
    assert as_router(route).find("x") is route
    found = as_router(asynchronous).find("x")
    assert found is not None
    assert found.function is asynchronous
    with pytest.raises(ConfigurationError):
        as_router("charge")


@pytest.mark.parametrize(
    "retry", [Retry, object(), 3, "Retry", {}], ids=lambda value: type(value).__name__
)
def test_what_is_no_retry_policy_is_refused(retry):
    with pytest.raises(
        ConfigurationError, match=r"retry is a Retry, e\.g\. .* or a RetryPolicy, not"
    ):
        Route(takes_one, retry=retry)
