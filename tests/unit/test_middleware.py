"""The chain: in which order hooks run, what becomes of a hook that raises, and the middleware that needs no server."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import ConfigurationError, Reject, Snooze
from streams.events.current import current_facts, trace_id_of
from streams.events.event import Event
from streams.handlers.routes import Route, Router
from streams.middleware import (
    Attempt,
    Chain,
    Context,
    Dedupe,
    Middleware,
    Place,
    Skip,
    Timeout,
    current_event,
)
from streams.pipeline import Pipeline
from tests.unit.attempts import outcome


class Noting(Middleware):
    """Notes every hook; raises or returns what it is told to."""

    def __init__(
        self, name: str, log: list, *, asynchronous: bool = False, **does
    ) -> None:
        self.name, self.log, self.does, self.asynchronous = (
            name,
            log,
            does,
            asynchronous,
        )

    def _do(self, hook: str, *facts):
        self.log.append((self.name, hook, *facts))
        what = self.does.get(hook)
        if isinstance(what, tuple):
            raise what[0]
        return what

    def _maybe_later(self, hook: str, *facts):
        async def later():
            await asyncio.sleep(0)
            return self._do(hook, *facts)

        return later() if self.asynchronous else self._do(hook, *facts)

    def before(self, attempt):
        return self._maybe_later("before")

    def after(self, attempt):
        return self._maybe_later("after")

    def failed(self, attempt, error):
        return self._maybe_later("failed", error)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_before_runs_down_and_after_runs_up(asynchronous):
    log = []

    async def handler(event):
        log.append(event.id)

    chain = Chain([Noting(name, log, asynchronous=asynchronous) for name in "ab"])
    assert await outcome(chain, handler) is None
    assert log == [
        ("a", "before"),
        ("b", "before"),
        "e1",
        ("b", "after"),
        ("a", "after"),
    ]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_failed_runs_up_and_may_put_another_exception_in_place(asynchronous):
    log, first, second = [], ValueError("x"), Reject("y")

    async def handler(event):
        raise first

    chain = Chain(
        [
            Noting("a", log),
            Noting("b", log, asynchronous=asynchronous, failed=second),
            Noting("c", log),
        ],
    )
    assert await outcome(chain, handler) is second
    assert log[3:] == [
        ("c", "failed", first),
        ("b", "failed", first),
        ("a", "failed", second),
    ]


async def test_a_before_that_raises_ends_those_that_were_entered():
    log, error = [], ValueError("x")
    chain = Chain(
        [Noting("a", log), Noting("b", log, before=(error,)), Noting("c", log)]
    )
    assert await outcome(chain, None) is error
    assert log == [("a", "before"), ("b", "before"), ("a", "failed", error)]


async def test_an_after_that_raises_is_a_failure_for_those_further_out():
    log, error = [], ValueError("x")
    chain = Chain(
        [Noting("a", log), Noting("b", log, after=(error,)), Noting("c", log)]
    )
    assert await outcome(chain) is error
    assert log[3:] == [("c", "after"), ("b", "after"), ("a", "failed", error)]


async def test_a_failed_that_raises_is_logged_and_the_first_error_stays(caplog):
    log, first = [], ValueError("first")

    async def handler(event):
        raise first

    assert (
        await outcome(
            Chain([Noting("a", log), Noting("b", log, failed=(KeyError("z"),))]),
            handler,
        )
        is first
    )
    assert log[-1] == ("a", "failed", first)
    assert "failed hook raised" in caplog.text
    signal = Snooze(1.0)
    assert await outcome(Chain([Noting("b", [], failed=(signal,))]), handler) is signal


async def test_skip_acknowledges_without_the_handler():
    log, ran = [], []

    async def handler(event):
        ran.append(event)

    for chain in (
        Chain([Noting("a", log), Noting("b", log, before=(Skip("done"),))]),
        Chain([Noting("a", log), Noting("b", log, failed=Skip())]),
    ):
        log.clear()
        assert not isinstance(await outcome(chain, handler), (ValueError, Reject))
    assert log == [("a", "before"), ("b", "before"), ("b", "after"), ("a", "after")]
    log.clear()
    assert (
        await outcome(
            Chain([Noting("a", log), Noting("b", log, before=(Skip("done"),))]), handler
        )
        is None
    )
    assert log == [("a", "before"), ("b", "before"), ("a", "after")]
    assert len(ran) == 1


def model(middleware: list[Noting], handler_error, log: list, at: int = 0):
    """The chain as nested try statements; returns the error."""
    if at == len(middleware):
        log.append("handler")
        return handler_error
    name, does = middleware[at].name, middleware[at].does
    log.append((name, "before"))
    if "before" in does:
        return does["before"][0]
    error = model(middleware, handler_error, log, at + 1)
    if error is None:
        log.append((name, "after"))
        return does["after"][0] if "after" in does else None
    log.append((name, "failed", error))
    answer = does.get("failed")
    return answer if isinstance(answer, BaseException) else error


errors = st.builds(ValueError, st.integers()).map(lambda error: (error,))

does = st.fixed_dictionaries(
    {},
    optional={
        "before": errors,
        "after": errors,
        "failed": st.builds(KeyError) | errors | st.just("no error"),
    },
)


@given(
    st.lists(st.tuples(does, st.booleans()), max_size=5),
    st.none() | st.builds(LookupError),
)
def test_the_chain_is_nested_try_statements(specs, handler_error):
    log, expected = [], []
    middleware = [
        Noting(str(n), log, asynchronous=later, **spec)
        for n, (spec, later) in enumerate(specs)
    ]

    async def handler(event):
        log.append("handler")
        if handler_error is not None:
            raise handler_error

    assert asyncio.run(outcome(Chain(middleware), handler)) is model(
        middleware, handler_error, expected
    )
    assert log == expected


def test_hooks_that_nobody_overrides_are_not_called():
    class OnlyAfter(Middleware):
        def after(self, attempt): ...

    assert Chain([]).entering == Chain([Middleware(), Timeout(1.0)]).entering == ()
    assert not Chain([Middleware(), Timeout(1.0)]).wraps
    assert not Chain([Context()]).wraps
    assert len(Chain([Context(), Context()]).entering) == 2
    assert Chain([OnlyAfter()]).wraps
    assert Chain([Context(), OnlyAfter()]).entering == ()


async def test_only_some_hooks():
    log = []

    class OnlyAfter(Middleware):
        def after(self, attempt):
            log.append(("after", attempt.state))

    class OnlyBefore(Middleware):
        async def before(self, attempt):
            attempt.state[self] = 5

    class OnlyFailed(Middleware):
        def failed(self, attempt, error):
            log.append("failed")

    only = OnlyBefore()
    assert await outcome(Chain([OnlyFailed(), only, OnlyAfter()])) is None
    assert log == [("after", {only: 5})]


async def test_start_in_order_and_stop_in_reverse(caplog):
    log = []
    place = Place(None, "s", "g", "c", 30.0)  # type: ignore[arg-type]

    class Starting(Middleware):
        def __init__(self, name, *, start=None, stop=None):
            self.name, self.start_error, self.stop_error = name, start, stop

        def start(self, place):
            log.append(("start", self.name))
            if self.start_error:
                raise self.start_error

        async def stop(self, place):
            log.append(("stop", self.name))
            if self.stop_error:
                raise self.stop_error

    chain = Chain([Starting("a"), Starting("b", stop=ValueError("x"))])
    await chain.start(place)
    await chain.stop(place)
    assert log == [("start", "a"), ("start", "b"), ("stop", "b"), ("stop", "a")]
    assert "cannot stop" in caplog.text
    log.clear()
    with pytest.raises(LookupError):
        await Chain(
            [Starting("a"), Starting("b", start=LookupError()), Starting("c")]
        ).start(place)
    assert log == [("start", "a"), ("start", "b"), ("stop", "a")]


@pytest.mark.parametrize(
    ("thing", "words"),
    [(Context, r"write Context\(\)"), (print, "not <built-in"), ("x", "'x'")],
)
def test_what_is_no_middleware_is_refused(thing, words):
    for declare in (
        Chain,
        lambda things: Pipeline("redis://localhost", middleware=things),
    ):
        with pytest.raises(ConfigurationError, match=words):
            declare([thing])


def test_the_list_of_a_pipeline_is_there_to_be_seen():
    assert [type(item) for item in Pipeline("redis://localhost").middleware] == [
        Context
    ]
    assert Pipeline("redis://localhost", middleware=[]).middleware == []
    timeout = Timeout(5.0)
    assert Pipeline("redis://localhost", middleware=iter([timeout])).middleware == [
        timeout
    ]


# --- context


async def test_the_context_tells_which_event_is_handled():
    seen = []
    entry = Event(
        "order",
        {"id": 1},
        id="e1",
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    )
    entry.stream, entry.group, entry.entry_id, entry.attempt = "orders", "g", "5-0", 2

    async def attempt_one():
        Context().before(Attempt(entry))
        seen.append((current_event(), current_facts()))

    await asyncio.create_task(attempt_one())
    assert current_event() is None
    assert current_facts() == {}
    facts = {
        "stream": "orders",
        "group": "g",
        "event_id": "e1",
        "event_type": "order",
        "entry": "5-0",
        "attempt": 2,
    }
    assert seen == [(entry, facts | {"trace_id": "a" * 32})]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        "00-" + "A" * 32 + "-b-01",
        "00-" + "0" * 32 + "-b-01",
        "00-abc-b-01",
        "a-b-c-d",
        "-" * 9,
    ],
)
def test_what_is_no_trace_parent_has_no_trace_id(text):
    assert trace_id_of(text) == ""


@given(st.text())
def test_any_text_is_read_as_a_trace_parent(text):
    assert trace_id_of(text) == "" or len(trace_id_of(text)) == 32


# --- timeout


def plain(event):
    """A handler."""


def limits(router: Router, *kinds: str) -> list:
    return [
        None if (route := router.find(kind)) is None else route.timeout
        for kind in kinds
    ]


def test_limits_by_type_by_default_and_by_the_handler():
    own = Route(plain, types=["own"], timeout=9.0)
    router = Router([own, Route(plain, types=["a", "b"])])
    both = Chain([Timeout(5.0, types={"a": 1.0, "own": 2.0, "nobody": 3.0})])
    served = router.with_timeouts(both.timeouts())
    assert limits(served, "own", "a", "b", "nobody") == [9.0, 1.0, 5.0, None]
    assert limits(router, "own", "a", "b") == [9.0, None, None]
    router.add(Route(plain))
    assert limits(router.with_timeouts(both.timeouts()), "nobody", "other") == [
        3.0,
        5.0,
    ]
    assert limits(
        router.with_timeouts(Chain([Timeout(types={"x": 1.0})]).timeouts()),
        "x",
        "other",
    ) == [1.0, None]
    outer_wins = Chain([Timeout(1.0), Timeout(2.0, types={"a": 3.0})])
    assert limits(router.with_timeouts(outer_wins.timeouts()), "a", "b") == [3.0, 1.0]
    assert router.with_timeouts(Chain([Context()]).timeouts()) is router


@pytest.mark.parametrize(
    "given", ["soon", [1.0], {"a": "soon"}, {None: 0}, {"a": None}]
)
def test_limits_that_are_none_are_refused_by_the_name_of_the_middleware(given):
    class Hasty(Middleware):
        def timeouts(self):
            return given

    with pytest.raises(
        ConfigurationError, match=r"timeouts\(\) of the middleware Hasty .*is a "
    ):
        Chain([Hasty()]).timeouts()


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), "5", True])
def test_refused_limits(seconds):
    for make in (lambda: Timeout(seconds), lambda: Timeout(types={"a": seconds})):
        with pytest.raises(ConfigurationError, match="number of seconds above 0"):
            make()
    with pytest.raises(ConfigurationError, match="takes seconds"):
        Timeout()


@pytest.mark.parametrize(
    "arguments", [{"window": 0}, {"window": "1h"}, {"busy": -1}, {"busy": True}]
)
def test_refused_windows(arguments):
    with pytest.raises(ConfigurationError, match="Dedupe: "):
        Dedupe(**arguments)


def test_every_hook_of_the_base_says_what_it_means():
    for name, hook in inspect.getmembers(Middleware, inspect.isfunction):
        assert (hook.__doc__ or "").strip(), name
