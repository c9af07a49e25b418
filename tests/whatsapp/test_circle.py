"""The whole circle under trouble: many tenants, errors of every class, a killed worker, a disconnected instance, and a
server that is restarted. ``STREAMS_TEST_MESSAGES=10000`` makes it long.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter, defaultdict

from streams.errors import BrokerUnavailable
from streams.settings import Settings
from streams.whatsapp import Application, Messages, Text
from streams.whatsapp.sandbox.app import Sandbox
from streams.whatsapp.sandbox.phone import Fault, Phone, Taken
from tests.conftest import eventually
from tests.servers import clean_environment
from tests.whatsapp.servers import serving
from tests.whatsapp.stage import QUICK

MESSAGES = int(os.environ.get("STREAMS_TEST_MESSAGES", "800"))
TENANTS, INSTANCES, RECIPIENTS = 50, 5, 150
RATE, BURST = 200, 50
FAULTS = [
    Fault(131000, 0.007, status=500),
    Fault(131016, 0.006, status=500),
    Fault(0, 0.006, status=502),
    Fault(130429, 0.006, retry_after=1),
    Fault(131056, 0.006, retry_after=1),
    Fault(4, 0.002, retry_after=1),
    Fault(131026, 0.006),
    Fault(132001, 0.005, status=404),
    Fault(190, 0.002, status=401),
    Fault(-1, 0.004),
]
FATAL = ("131026", "132001")


def instances(url: str) -> str:
    rows = (
        f'[instances.{n}]\nprovider = "cloud"\nname = "p{n}"\nbase_url = "{url}"\ntoken_env = "TEST_TOKEN"\n'
        for n in range(INSTANCES)
    )
    return "\n".join(rows)


async def test_nobody_gets_a_message_twice_and_nobody_loses_one(
    make_server, binary, tmp_path
):
    server = make_server(binary, "--appendfsync", "always", aof=True)
    phone = Phone(seed=3)
    phone.faults = [*FAULTS]
    chance = random.Random(5)
    async with serving(Sandbox(phone, statuses={}).app) as url:
        (tmp_path / "instances.toml").write_text(instances(url))
        environment = clean_environment() | {
            "STREAMS_URL": server.url,
            "STREAMS_LEASE": "2",
            "STREAMS_LOG_LEVEL": "error",
            "TEST_TOKEN": "t",
            "STREAMS_WHATSAPP_INSTANCES": str(tmp_path / "instances.toml"),
            "STREAMS_WHATSAPP_RATE": f"{RATE}/s",
            "STREAMS_WHATSAPP_BURST": str(BURST),
            "STREAMS_WHATSAPP_PAIR_RATE": "100/s",
            "STREAMS_WHATSAPP_RETRY_DELAY": "0.1",
            "STREAMS_WHATSAPP_TIMEOUT": "1.5",
            "STREAMS_WHATSAPP_UNKNOWN_AFTER": "3",
        }

        async def worker() -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "streams",
                    "worker",
                    "streams.whatsapp.app:pipeline",
                ),
                env=environment,
            )

        workers = [await worker(), await worker()]
        made = Application(Settings(url=server.url), QUICK, environ={})
        idents: list[str] = []
        expected: defaultdict[str, list[str]] = defaultdict(list)
        try:
            async with made.pipeline.asynchronous as pipeline:
                messages = Messages(pipeline, made.settings)

                async def publish(count: int) -> None:
                    for _ in range(count):
                        to = f"5511999{chance.randrange(RECIPIENTS):06}"
                        instance = chance.randrange(INSTANCES)
                        ident = await messages.add(
                            to,
                            Text(str(len(idents))),
                            tenant=chance.randrange(TENANTS),
                            instance=instance,
                            max_retries=30,
                        )
                        expected[f"p{instance} +{to}"].append(ident)
                        idents.append(ident)

                async def done() -> int:
                    totals = await messages.totals()
                    return totals.get("sent", 0) + totals.get("failed", 0)

                await publish(MESSAGES // 2)
                await eventually(lambda: len(phone.taken) >= MESSAGES // 8, seconds=60)
                workers[0].send_signal(signal.SIGKILL)
                await workers[0].wait()
                phone.disconnected.add("p1")
                workers.append(await worker())
                await publish(MESSAGES - MESSAGES // 2)
                await eventually(lambda: len(phone.taken) >= MESSAGES // 2, seconds=120)
                server.kill()
                server.start()
                phone.disconnected.clear()

                async def over() -> bool:
                    # A connection that the server's death is only now found out on tells nothing about the messages.
                    with contextlib.suppress(BrokerUnavailable):
                        return await done() >= len(idents)
                    return False

                await eventually(
                    over, seconds=240, what=f"{len(idents)} messages to end"
                )
                records = {ident: await messages.show(ident) for ident in idents}
                totals = await messages.totals()
        finally:
            for each in workers:
                if each.returncode is None:
                    each.terminate()
            for each in workers:
                await asyncio.wait_for(each.wait(), 30)
    states = Counter(str(record.status) for record in records.values())
    taken = Counter(each.callback for each in phone.taken)
    unknown = {ident for ident, record in records.items() if record.reason == "unknown"}
    assert set(states) <= {"sent", "failed"}
    assert max(taken.values()) == 1, "somebody got a message twice"
    assert {
        ident for ident, record in records.items() if record.status == "sent"
    } <= set(taken)
    assert set(taken) - unknown == {
        ident for ident, record in records.items() if record.status == "sent"
    }
    failed = {
        ident: record.reason
        for ident, record in records.items()
        if record.status == "failed"
    }
    assert set(failed.values()) <= {"unknown", "undeliverable", "template_missing"}
    # A worker that is killed between such an answer and its note leaves an unknown outcome.
    fatal = sum(phone.answers[code] for code in FATAL)
    assert (
        0
        <= fatal - sum(reason != "unknown" for reason in failed.values())
        <= len(unknown)
    )
    assert (totals["sent"], totals["failed"]) == (states["sent"], states["failed"])
    assert_in_order(expected, list(phone.taken))
    assert_rates(list(phone.taken))


def assert_in_order(expected: dict[str, list[str]], taken: list[Taken]) -> None:
    """Messages of one instance to one recipient came in the order in which they were queued."""
    came: defaultdict[str, list[str]] = defaultdict(list)
    for each in taken:
        came[f"{each.phone_number_id} {each.to}"].append(each.callback)
    for pair, idents in came.items():
        places = [expected[pair].index(ident) for ident in idents]
        assert places == sorted(places), pair


def assert_rates(taken: list[Taken]) -> None:
    """No second of an instance has more than its rate and burst allow, as the sandbox counts."""
    at: defaultdict[str, list[float]] = defaultdict(list)
    for each in taken:
        at[each.phone_number_id].append(each.at)
    for times in at.values():
        for first, moment in enumerate(times):
            within = sum(
                moment <= other < moment + 1
                for other in times[first : first + RATE + BURST + 60]
            )
            # What was on its way when the second began.
            assert within <= RATE + BURST + 50
