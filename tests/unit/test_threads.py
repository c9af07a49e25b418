"""Threads for plain functions: results and exceptions come back, nothing hangs, threads are used again."""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import subprocess
import sys
import threading

import pytest

from streams.handlers import threads
from streams.handlers.threads import Threads, at_thread_end
from tests.conftest import eventually

name_of_tenant = contextvars.ContextVar("name_of_tenant", default="nobody")


@pytest.fixture
def pool():
    return Threads()


async def settled(pool: Threads, count: int) -> None:
    """Wait until so many threads are idle again: a thread says so just before it delivers."""
    await eventually(lambda: pool._idle == count, what=f"{count} idle threads")


async def test_a_result_comes_back(pool):
    def add(a, b):
        assert threading.current_thread() is not threading.main_thread()
        return a + b

    assert await pool.run(add, 1, 2) == 3
    assert await pool.run(lambda: None) is None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        SystemExit(3),
        KeyboardInterrupt(),
        StopAsyncIteration(),
        BaseException("y"),
    ],
)
async def test_an_exception_comes_back_and_the_thread_lives(pool, error):
    def fail():
        raise error

    with pytest.raises(type(error)) as caught:
        await pool.run(fail)
    assert caught.value is error
    assert await pool.run(threading.get_ident) == await pool.run(threading.get_ident)


async def test_cancelled_error_of_the_function_comes_back(pool):
    def fail():
        raise asyncio.CancelledError("mine")

    with pytest.raises(asyncio.CancelledError):
        await pool.run(fail)


@pytest.mark.parametrize("error", [StopIteration("end"), GeneratorExit()])
async def test_what_a_future_cannot_hold_comes_back_as_a_runtime_error(pool, error):
    def fail():
        raise error

    with pytest.raises(
        RuntimeError, match=f"the handler raised {type(error).__name__}"
    ):
        await pool.run(fail)
    assert await pool.run(lambda: 1) == 1


async def test_the_callers_context_is_visible_and_safe(pool):
    def work():
        seen = name_of_tenant.get()
        name_of_tenant.set("changed in the thread")
        return seen

    name_of_tenant.set("acme")
    assert await pool.run(work) == "acme"
    assert name_of_tenant.get() == "acme"
    name_of_tenant.set("other")
    assert await pool.run(work) == "other"


async def test_a_cancelled_call_drops_the_result_and_the_pool_goes_on(pool):
    entered, leave = threading.Event(), threading.Event()

    def stuck():
        entered.set()
        leave.wait(10)
        return "late"

    call = asyncio.create_task(pool.run(stuck))
    await asyncio.to_thread(entered.wait, 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await pool.run(lambda: "next") == "next"
    leave.set()
    await settled(pool, 2)
    assert await pool.run(lambda: "after") == "after"
    assert call.cancelled()


async def test_a_late_exception_is_dropped_too(pool):
    entered, leave = threading.Event(), threading.Event()

    def stuck():
        entered.set()
        leave.wait(10)
        raise ValueError("late")

    call = asyncio.create_task(pool.run(stuck))
    await asyncio.to_thread(entered.wait, 10)
    call.cancel()
    await asyncio.wait([call])
    leave.set()
    await settled(pool, 1)
    assert await pool.run(lambda: 1) == 1


async def test_calls_one_after_the_other_share_a_thread(pool):
    seen = set()
    for _ in range(200):
        seen.add(await pool.run(threading.get_ident))
    assert len(seen) <= 2
    assert pool._idle <= 2


async def test_as_many_threads_as_calls_under_way(pool):
    together = threading.Barrier(20)

    def meet():
        together.wait(10)
        return threading.get_ident()

    assert len(set(await asyncio.gather(*(pool.run(meet) for _ in range(20))))) == 20
    await settled(pool, 20)
    await asyncio.gather(*(pool.run(meet) for _ in range(20)))
    await settled(pool, 20)


async def test_many_calls_at_once_all_come_back(pool):
    assert await asyncio.gather(*(pool.run(lambda n=n: n * n) for n in range(500))) == [
        n * n for n in range(500)
    ]


async def test_idle_threads_end_by_themselves_and_new_ones_come(pool, monkeypatch):
    monkeypatch.setattr(threads, "_IDLE_SECONDS", 0.02)
    idents = await asyncio.gather(
        *(pool.run(threading.current_thread) for _ in range(5))
    )
    await eventually(
        lambda: not any(thread.is_alive() for thread in idents),
        what="idle threads to end",
    )
    assert pool._idle == 0
    for _ in range(20):
        assert await pool.run(lambda: 5) == 5


class Endings:
    """Which threads have called ``close`` at their end."""

    def __init__(self):
        self.seen = []

    def close(self):
        self.seen.append(threading.current_thread())

    def work(self):
        at_thread_end(self.close)
        return threading.current_thread()


async def test_an_idle_thread_does_at_its_end_what_it_was_given_once(pool, monkeypatch):
    monkeypatch.setattr(threads, "_IDLE_SECONDS", 0.02)
    endings = Endings()
    used = {await pool.run(endings.work) for _ in range(5)}
    await eventually(
        lambda: not any(thread.is_alive() for thread in used),
        what="idle threads to end",
    )
    assert sorted(endings.seen, key=id) == sorted(used, key=id)


async def test_an_end_that_fails_is_told_and_keeps_no_other_from_its_own(pool, caplog):
    endings = Endings()

    def fail():
        raise ValueError("secret")

    def work():
        at_thread_end(fail)
        return endings.work()

    thread = await pool.run(work)
    await pool.end()
    assert endings.seen == [thread]
    assert [record.error for record in caplog.records] == ["ValueError"]
    assert "secret" not in caplog.text


async def test_a_pool_that_ends_has_its_idle_threads_done_and_gets_new_ones(pool):
    endings, together = Endings(), threading.Barrier(8)

    def meet():
        together.wait(10)
        return endings.work()

    used = await asyncio.gather(*(pool.run(meet) for _ in range(8)))
    await pool.end()
    assert set(endings.seen) == set(used)
    assert await pool.run(threading.current_thread) not in used
    await pool.end()
    await pool.end()


async def test_a_thread_at_work_ends_after_its_call_where_the_pool_has_ended(pool):
    endings, entered, leave = Endings(), threading.Event(), threading.Event()

    def stuck():
        entered.set()
        leave.wait(10)
        return endings.work()

    call = asyncio.create_task(pool.run(stuck))
    await asyncio.to_thread(entered.wait, 10)
    await pool.end()
    assert await pool.run(lambda: "another") == "another"
    assert endings.seen == []
    leave.set()
    thread = await call
    await eventually(lambda: endings.seen == [thread], what="the thread to end")


async def test_calls_and_ends_at_once_all_come_back(pool):
    async def end():
        for _ in range(50):
            await pool.end()
            await asyncio.sleep(0)

    _, *squares = await asyncio.gather(
        end(), *(pool.run(lambda n=n: n * n) for n in range(500))
    )
    assert squares == [n * n for n in range(500)]


def test_the_end_of_a_thread_of_no_pool_is_not_seen():
    endings = Endings()
    endings.work()
    assert endings.seen == []


def test_a_loop_that_is_closed_does_not_end_the_thread():
    pool, entered, leave = Threads(), threading.Event(), threading.Event()
    seen = []

    def stuck():
        seen.append(threading.current_thread())
        entered.set()
        leave.wait(10)

    async def give_up():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.run(stuck), 0.01)
        await asyncio.to_thread(entered.wait, 10)

    asyncio.run(give_up())
    leave.set()

    async def go_on():
        await settled(pool, 1)
        return await pool.run(threading.current_thread)

    assert asyncio.run(go_on()) is seen[0]


def test_a_function_that_never_returns_does_not_hang_the_exit():
    code = """
import asyncio, threading
from streams.handlers.threads import Threads
async def main():
    try:
        await asyncio.wait_for(Threads().run(threading.Event().wait), 0.05)
    except TimeoutError:
        print("gave up", flush=True)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout == "gave up\n"


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)
async def test_a_forked_process_has_threads_of_its_own(pool):
    """Idle threads stay with the parent: a child that counted on them would wait for ever."""
    await pool.run(lambda: None)
    await settled(pool, 1)

    def in_child() -> None:
        assert asyncio.run(asyncio.wait_for(pool.run(lambda: 7), 5)) == 7

    child = multiprocessing.get_context("fork").Process(target=in_child)
    child.start()
    await asyncio.to_thread(child.join)
    assert child.exitcode == 0
