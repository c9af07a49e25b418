"""Partitions: names, where an event belongs, and who serves what, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import Limit, Partitions, Pipeline
from streams.errors import ConfigurationError
from streams.policy.partitions import assigned, base_of, partition_name, partition_of

names = st.lists(
    st.text("abcdef0123456789-", min_size=1, max_size=12),
    min_size=1,
    max_size=20,
    unique=True,
)


@given(names, st.integers(1, 64))
def test_no_partition_is_left_out_and_no_member_idle(members, count):
    shares = [assigned(members, me, count) for me in members]
    assert set().union(*shares) == set(range(count))
    assert all(shares)
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    if len(members) <= count:
        assert sum(sizes) == count, "each partition has one member"
    else:
        on = [sum(number in share for share in shares) for number in range(count)]
        assert max(on) - min(on) <= 1


@given(names, st.integers(1, 64))
def test_whoever_looks_sees_the_same(members, count):
    for me in members:
        assert assigned(members, me, count) == assigned(
            list(reversed(members)), me, count
        )
        assert assigned(
            [other for other in members if other != me], me, count
        ) == assigned(members, me, count)


def test_most_partitions_stay_where_they_are_when_a_member_comes():
    before = {me: assigned("abcdefgh", me, 64) for me in "abcdefgh"}
    after = {me: assigned("abcdefghi", me, 64) for me in "abcdefghi"}
    moved = sum(len(after[me] - before[me]) for me in "abcdefgh")
    assert len(after["i"]) == 7
    assert moved <= 16, "hardly more than the newcomer takes"


def test_names():
    assert [partition_name("orders", n) for n in range(3)] == [
        "orders",
        "orders.p1",
        "orders.p2",
    ]
    assert [base_of(name) for name in ("orders", "orders.p1", "orders.p0", "a.px", "a.p1.p22")] == [
        "orders", "orders", "orders.p0", "a.px", "a.p1",
    ]  # fmt: skip


def test_where_a_value_belongs_is_the_same_in_every_language():
    """CRC-32 as zlib, PNG and PHP's crc32() make it."""
    assert [partition_of(value, 8) for value in ("", "123456789", "ação", "\ud800")] == [
        0, 0xCBF43926 % 8, partition_of("ação", 8), partition_of("\ud800", 8),
    ]  # fmt: skip


@pytest.mark.parametrize("count", [0, -1, 1001, True, "8", 1.0])
def test_counts_that_are_refused(count):
    with pytest.raises(
        ConfigurationError, match="partitions is an integer from 1 to 1000"
    ):
        Partitions(count)


def test_what_holds_for_a_partition_is_not_promised_for_the_stream():
    with pytest.raises(ConfigurationError, match="by one of"):
        Partitions(2, by="colour")

    async def handle(event):
        del event

    for options, match in (
        ({"order_by": "subject"}, "Spread it by 'subject'"),
        ({"limits": [Limit("tenant", rate="1/s")]}, "Limit by 'key'"),
        ({"limits": [Limit(lambda e: e.key, rate="1/s", name="own")]}, "'own'"),
    ):
        pipeline = Pipeline("redis://h")
        pipeline.stream("orders", partitions=4)
        pipeline.handler("orders", group="g", **options)(handle)
        with pytest.raises(ConfigurationError, match=match):
            _ = pipeline.plans
    pipeline = Pipeline("redis://h")
    pipeline.stream("orders", partitions=Partitions(4, by="tenant"))
    limit = Limit(("tenant", "key"), rate="1/s")
    pipeline.handler("orders", group="g", order_by=("tenant", "key"), limits=[limit])(
        handle
    )
    assert pipeline.plans[0].partitions == Partitions(4, "tenant")
