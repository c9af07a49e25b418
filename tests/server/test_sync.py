"""The blocking form on a real server: what it does, and what threads, interruptions and ends of programs do to it."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from streams import (
    BrokerUnavailable,
    ConfigurationError,
    EventError,
    Filter,
    NotFound,
    Receipt,
    Reject,
    Settings,
    StreamFull,
)
from streams.sync import Pipeline
from tests.servers import wait_until

pytestmark = pytest.mark.in_turn


@pytest.fixture
def pipeline(server, namespace):
    with Pipeline(server.url, settings=Settings(namespace=namespace)) as pipeline:
        yield pipeline


def test_publish_and_look(pipeline):
    receipt = pipeline.publish("orders", {"id": 1}, type="order.created", priority=10)
    assert isinstance(receipt, Receipt)
    assert pipeline.status().streams() == {"orders": [0, 1, 5, 10]}
    assert pipeline.status().stream("orders").stored == 1
    assert [row.stream for row in pipeline.status().overview()] == ["orders"]
    with pytest.raises(NotFound, match="no trace"):
        pipeline.status().find("orders", "nothing-of-the-kind")


def test_run_handles_and_a_thread_may_stop_it(pipeline):
    seen, receipts = [], []

    @pipeline.handler("orders", group="billing")
    def charge(event):
        seen.append(event.data)
        if event.data == 1:
            # A plain handler publishes through the same object, while its worker runs.
            receipts.append(pipeline.publish("orders", 2, type="t"))
        else:
            pipeline.stop()

    pipeline.publish("orders", 1, type="t")
    pipeline.run()
    assert seen == [1, 2]
    assert receipts
    assert pipeline.status().stream("orders").stored == 0


def test_dead_letters(pipeline):
    @pipeline.handler("orders", group="billing")
    def charge(event):
        if event.data["n"] == 9:
            pipeline.stop()
        raise Reject("never")

    pipeline.publish_many("orders", ({"n": n} for n in range(10)), type="t")
    pipeline.run()
    letters = pipeline.dead_letters("orders", "billing", by="test")
    wait_until(lambda: letters.count() == 10, what="ten dead letters")
    assert [letter.reason for letter in letters.iterate()] == ["rejected"] * 10
    first, second = letters.page(limit=2)
    assert letters.show(first.id).event_id == first.event_id
    assert letters.page(after=first.id, limit=1)[0].id == second.id
    assert len(list(letters.export(Filter(type="t")))) == 10
    assert letters.replay([first.id]).matched == 1
    assert letters.discard(Filter(type="t")) == 9
    with pytest.raises(NotFound):
        letters.show(first.id)


def test_an_iteration_can_be_left_early(pipeline):
    letters = pipeline.dead_letters("orders", "billing")
    assert list(letters.iterate()) == []
    with pytest.raises(NotFound, match="ids look like"):
        list(letters.iterate(after="x"))
    assert pipeline.status().streams() == {}


def test_many_threads_share_round_trips(pipeline):
    pipeline.publish("orders", 0, type="t")
    trips = 0

    async def count(opened):
        link = opened.producer("orders")._publishing._link
        send = link.batch

        async def counted(*arguments, **options):
            nonlocal trips
            trips += 1
            return await send(*arguments, **options)

        link.batch = counted

    pipeline.portal.call(count)
    ready = threading.Barrier(16)

    def publish(n: int) -> list[Receipt]:
        ready.wait(10)
        return [pipeline.publish("orders", [n, m], type="t") for m in range(50)]

    with ThreadPoolExecutor(16) as pool:
        receipts = [
            receipt for found in pool.map(publish, range(16)) for receipt in found
        ]
    assert len({receipt.entry_id for receipt in receipts}) == 800
    assert pipeline.status().stream("orders").stored == 801
    assert 0 < trips < 800, trips


def test_publish_many_reads_a_generator_batch_by_batch_in_the_callers_thread(pipeline):
    asked, threads = 0, set()

    def events():
        nonlocal asked
        for n in range(9000):
            asked += 1
            threads.add(threading.current_thread())
            yield {"n": n}

    batches = pipeline.producer("orders").publish_batches(events(), type="t")
    assert len(next(batches)) == 500
    assert asked == 4000
    assert sum(map(len, batches)) == 8500
    assert threads == {threading.current_thread()}
    assert len(pipeline.publish_many("orders", events(), type="t")) == 9000


def test_an_error_of_the_generator_arrives(pipeline):
    def events():
        yield from range(4100)
        raise LookupError("the cursor is gone")

    with pytest.raises(LookupError, match="the cursor is gone"):
        pipeline.publish_many("orders", events(), type="t")
    assert pipeline.status().stream("orders").stored == 4000


def test_what_came_before_a_refused_event_is_stored_and_told(pipeline):
    batches = pipeline.producer("orders").publish_batches(
        [*range(700), object()], type="t"
    )
    stored = next(batches) + next(batches)
    with pytest.raises(EventError):
        next(batches)
    assert len(stored) == pipeline.status().stream("orders").stored == 700


def test_a_full_stream_counts_what_was_accepted_in_the_whole_call(server, namespace):
    with Pipeline(
        server.url, settings=Settings(namespace=namespace, max_len=1100)
    ) as pipeline:
        with pytest.raises(StreamFull) as caught:
            pipeline.publish_many("orders", range(2000), type="t")
        assert caught.value.accepted == 1100


def test_asynchronous_iterables_are_refused(pipeline):
    async def events():
        yield 1

    with pytest.raises(ConfigurationError, match=r"for streams\.Pipeline"):
        pipeline.publish_many("orders", events(), type="t")  # type: ignore[arg-type]


def test_a_running_event_loop_is_told_of_the_other_pipeline(pipeline):
    async def mistake():
        pipeline.publish("orders", 1, type="t")

    async def another():
        pipeline.run()

    for wrong in (mistake, another):
        with pytest.raises(
            ConfigurationError, match=r"use streams\.Pipeline here and await"
        ):
            asyncio.run(wrong())


def test_errors_have_the_place_where_they_began_and_the_place_of_the_call(pipeline):
    with pytest.raises(EventError) as caught:
        pipeline.publish("orders", object(), type="t")
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert (
        frames[0]
        == "test_errors_have_the_place_where_they_began_and_the_place_of_the_call"
    )
    assert "encode_body" in frames


def test_without_with_it_opens_at_first_use_and_opens_again_after_close(
    server, namespace
):
    pipeline = Pipeline(server.url, settings=Settings(namespace=namespace))
    assert sync_threads() == []
    for _ in range(2):
        pipeline.publish("orders", 1, type="t")
        assert len(sync_threads()) == 1
        pipeline.close()
        assert sync_threads() == []
    pipeline.close()
    assert pipeline.status().stream("orders").stored == 2
    pipeline.close()


def test_the_outermost_with_closes(pipeline):
    with pipeline, pipeline:
        pipeline.publish("orders", 1, type="t")
    assert len(sync_threads()) == 1
    assert pipeline.status().stream("orders").stored == 1


def test_with_raises_at_once_when_the_server_is_away():
    pipeline = Pipeline("redis://127.0.0.1:1/0")
    with pytest.raises(BrokerUnavailable), pipeline:
        raise AssertionError
    pipeline.close()


def test_calls_under_way_finish_when_another_thread_closes(server, pipeline):
    with server.client() as client:
        client.execute_command("CLIENT", "PAUSE", 300, "WRITE")
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(pipeline.publish, "orders", 1, type="t")
        wait_until(publishing.running)
        pipeline.close()
        assert publishing.result(10).entry_id


def test_an_iteration_does_not_outlive_the_pipeline(server, namespace):
    pipeline = Pipeline(server.url, settings=Settings(namespace=namespace))
    batches = pipeline.portal.iterate(lambda p: endless())
    assert [next(batches) for _ in range(5)] == [0, 1, 2, 3, 4]
    pipeline.close()
    with pytest.raises(ConfigurationError, match="during this iteration"):
        list(batches)
    pipeline.close()


async def endless():
    n = 0
    while True:
        yield n
        n += 1


class TimeLimitError(Exception):
    """Of a signal handler, as Celery's time limits are."""


def test_what_interrupts_the_caller_ends_the_call(pipeline):
    ended = threading.Event()

    async def hang(_):
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    def interrupt(*_):
        raise TimeLimitError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for raised in (TimeLimitError, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            started = time.monotonic()
            with pytest.raises(raised):
                pipeline.portal.call(hang)
            assert time.monotonic() - started < 5
            assert ended.wait(5)
            ended.clear()
            signal.signal(signal.SIGALRM, signal.default_int_handler)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert pipeline.publish("orders", 1, type="t").entry_id  # and the next call works


def test_a_silent_server_ends_the_call_by_the_timeout(make_server, binary):
    server = make_server(binary)
    with Pipeline(server.url, settings=Settings(timeout=0.3)) as pipeline:
        pipeline.publish("orders", 1, type="t")
        server.signal(signal.SIGSTOP)
        with pytest.raises(BrokerUnavailable, match=r"no answer within 0\.3 s"):
            pipeline.status().streams()
        server.signal(signal.SIGCONT)


def sync_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "streams-sync"]
