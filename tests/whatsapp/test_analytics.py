"""Analytics add up with what was done, and forget in time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import ConfigurationError
from streams.whatsapp import Text
from streams.whatsapp.analytics import Analytics, Figures, bucket_of, counts_of, total
from streams.whatsapp.sandbox.phone import Fault
from streams.whatsapp.status import MessageStatus
from tests.conftest import eventually
from tests.whatsapp.stage import QUICK, stage


def today() -> date:
    return datetime.now(UTC).date()


async def test_figures_add_up_with_what_the_sandbox_took(server, namespace):
    first = today()
    async with stage(server, namespace, replace(QUICK, retry_delay=0.01)) as place:
        place.phone.faults = [
            Fault(131000, 0.1, status=500),
            Fault(131026, 0.05),
            Fault(131047, 0.05),
        ]
        idents = []
        for n in range(200):
            to = f"551199{n:07}"
            idents.append(
                await place.messages.add(
                    to, Text("x"), tenant=f"t{n % 3}", instance=n % 2, max_retries=30
                )
            )

        async def over() -> bool:
            totals = await place.messages.totals()
            return totals.get("sent", 0) + totals.get("failed", 0) == 200

        await eventually(over, seconds=30)
        analytics = Analytics(place.application.pipeline.asynchronous)
        last = today()
        tenants = await analytics.tenants(first, last)
        assert list(tenants) == ["t0", "t1", "t2"]
        assert [figures.queued for figures in tenants.values()] == [67, 67, 66]
        whole = total(
            [
                f
                for name in tenants
                for f in (await analytics.instances(name, first, last)).values()
            ]
        )
        assert (whole.queued, whole.sent + whole.failed, whole.sent) == (
            200,
            200,
            len(place.phone.taken),
        )
        assert whole.reasons == {
            reason: count
            for reason, code in (
                ("undeliverable", "131026"),
                ("window_closed", "131047"),
            )
            if (count := place.phone.answers[code])
        }
        assert whole.retried == place.phone.answers["131000"]
        assert sum(whole.waits.values()) == whole.sent
        assert 0 < whole.percentile(0.5) <= whole.percentile(0.99)
        days = total((await analytics.days("t0", first, last)).values())
        assert (days.queued, days.sent) == (tenants["t0"].queued, tenants["t0"].sent)
        hours = total([f for n in range((last - first).days + 1) for f in (
            await analytics.hours("t0", first + timedelta(days=n))).values()])  # fmt: skip
        assert (hours.queued, hours.sent, hours.failed) == (
            days.queued,
            days.sent,
            days.failed,
        )
        assert set(await analytics.instances("t0", first, last)) == {"0", "1"}
        assert (
            await analytics.tenants(
                first - timedelta(days=9), first - timedelta(days=8)
            )
            == {}
        )
        for span in (
            (last, first - timedelta(days=1)),
            (last - timedelta(days=401), last),
        ):
            with pytest.raises(ConfigurationError):
                await analytics.tenants(*span)
        control = place.application.pipeline.asynchronous.broker.control
        keys = await control.call("KEYS", f"{namespace}:*:counts:*")
        assert keys
        for key in keys:
            kept = await control.call("PTTL", key) / 86_400_000
            assert (
                31 < kept <= (32 if b"T" in key.rpartition(b"counts:")[2][:13] else 400)
            )


async def test_a_message_is_counted_as_queued_once_whoever_is_first(server, namespace):
    """The worker may note a message before who queued it does."""
    async with stage(server, namespace) as place:
        from streams.whatsapp.status import tracking

        notes = tracking(place.application.pipeline.asynchronous, 60.0)
        now = place.application.pipeline.asynchronous.broker.clock.now()
        for status in (
            MessageStatus.PROCESSING,
            MessageStatus.PENDING,
            MessageStatus.PROCESSING,
            MessageStatus.SENT,
        ):
            await notes.note("m", status, counts=counts_of(status, "t", "i", now=now))
        analytics = Analytics(place.application.pipeline.asynchronous)
        figures = (
            await analytics.tenants(
                today() - timedelta(days=1), today() + timedelta(days=1)
            )
        )["t"]
        assert (figures.queued, figures.sent) == (1, 1)


@given(
    st.lists(st.floats(0.0, 1000.0), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.95, 0.99]),
)
def test_percentiles_are_exact_to_a_quarter(waits, share):
    figures = Figures(waits=Counter(bucket_of(wait) for wait in waits))
    exact = sorted(waits)[max(0, -(-int(share * len(waits) * 100) // 100) - 1)]
    found = figures.percentile(share)
    assert found is not None
    assert found >= exact * 0.999 - 0.01
    assert Figures().percentile(share) is None


def test_a_message_without_a_tenant_is_not_counted():
    assert counts_of(MessageStatus.SENT, "", "1", now=0.0) == []
