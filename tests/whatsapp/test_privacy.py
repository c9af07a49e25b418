"""What people may ask for: to be left alone, to be forgotten, and not to be read."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace

import pytest

from streams.errors import ConfigurationError, InvalidMessage, Snooze
from streams.settings import Settings
from streams.whatsapp import Application, Messages, Recipient, Text, WhatsAppSettings
from streams.whatsapp.privacy import expire, forget
from streams.whatsapp.sandbox.phone import Fault
from streams.whatsapp.status import GROUP, STREAM
from streams.whatsapp.suppressions import Suppressions
from streams.whatsapp.vault import Vault, new_key
from streams.whatsapp.webhooks.tracker import INBOUND_STREAM
from tests.conftest import eventually
from tests.whatsapp.stage import PHONE, QUICK, stage
from tests.whatsapp.test_sender import status_is

OTHER = "5511888880000"
BODY = {"to": "+" + PHONE, "type": "text", "text": {"body": "Olá"}}


async def everything(control, namespace: str) -> bytes:
    """All that is stored of a namespace, in one piece."""
    found = b""
    for key in await control.call("KEYS", f"{namespace}:*"):
        found += key + b" " + (await control.call("DUMP", key) or b"")
        kind = await control.call("TYPE", key)
        if kind in (b"stream", "stream"):
            found += repr(await control.call("XRANGE", key, "-", "+")).encode()
        elif kind in (b"hash", "hash"):
            found += b" ".join(await control.call("HGETALL", key))
    return found


# --- the vault


def test_what_is_sealed_opens_with_its_message_and_tenant_only():
    vault = Vault(new_key("k1"))
    sealed = vault.seal(BODY, "m1", "acme")
    assert PHONE not in repr(sealed)
    assert vault.open(sealed, "m1", "acme") == BODY
    assert sealed["text"] != vault.seal(BODY, "m1", "acme")["text"]
    for ident, tenant in (("m2", "acme"), ("m1", "other")):
        with pytest.raises(InvalidMessage, match="another message"):
            vault.open(sealed, ident, tenant)
    raw = bytearray(base64.b64decode(sealed["text"]))
    raw[-1] ^= 1
    for text in (base64.b64encode(bytes(raw)).decode(), "", "no base64!", None):
        with pytest.raises(InvalidMessage):
            vault.open({**sealed, "text": text}, "m1", "acme")


def test_keys_are_rotated_by_putting_a_new_one_first():
    old, new = new_key("old"), new_key("new")
    sealed = Vault(old).seal(BODY, "m1", "acme")
    both = Vault(f"{new}, {old}")
    assert both.open(sealed, "m1", "acme") == BODY
    assert both.seal(BODY, "m1", "acme")["sealed"] == "new"
    with pytest.raises(Snooze):
        Vault(new).open(sealed, "m1", "acme")
    with pytest.raises(Snooze):
        Vault("").open(sealed, "m1", "acme")
    assert Vault("").open(BODY, "m1", "acme") == BODY
    assert Vault("").seal(BODY, "m1", "acme") == BODY
    assert (both.seals, Vault("").seals) == (True, False)


@pytest.mark.parametrize(
    "keys",
    [
        "k1",
        "k1:short",
        "k 1:" + "A" * 43 + "=",
        ":" + "A" * 43 + "=",
        "a:" + "A" * 43 + "=,a:" + "A" * 43 + "=",
    ],
)
def test_a_wrong_key_is_refused_at_the_start_and_not_repeated(keys):
    with pytest.raises(ConfigurationError, match="new-key") as caught:
        WhatsAppSettings(encryption_keys=keys)
    assert "AAAA" not in str(caught.value)


async def test_sealed_messages_go_out_and_are_read_nowhere_on_the_server(
    server, namespace
):
    old, new = new_key("old"), new_key("new")
    async with stage(
        server, namespace, replace(QUICK, encryption_keys=f"{new},{old}")
    ) as place:
        pipeline = place.application.pipeline.asynchronous
        earlier = Messages(
            pipeline, replace(place.application.settings, encryption_keys=old)
        )
        place.phone.faults = [Fault(131000, share=0.5, status=500)]
        idents = [
            await earlier.add(PHONE, Text(f"segredo {n}"), max_retries=50)
            for n in range(3)
        ]
        idents += [
            await place.messages.add(PHONE, Text("segredo"), delay=0.2, max_retries=50)
            for _ in range(3)
        ]
        stored = await everything(pipeline.broker.control, namespace)
        assert b"sealed" in stored
        for ident in idents:
            await status_is(place, ident, "sent")
        assert {taken.body["text"]["body"] for taken in place.phone.taken} >= {
            "segredo 0",
            "segredo",
        }
        for text in (stored, await everything(pipeline.broker.control, namespace)):
            assert b"segredo" not in text
            assert PHONE.encode() not in text


async def test_a_message_whose_key_is_missing_waits_for_it(server, namespace):
    """A rotation that has not come to every worker yet loses nothing and fails nothing."""
    async with stage(server, namespace) as place:
        pipeline = place.application.pipeline.asynchronous
        elsewhere = Messages(
            pipeline,
            replace(place.application.settings, encryption_keys=new_key("new")),
        )
        ident = await elsewhere.add(PHONE, Text("x"), max_retries=0)
        retry = pipeline.broker.keys(STREAM).retry(GROUP)
        await eventually(
            lambda: pipeline.broker.control.call("ZCARD", retry), what="it waits"
        )
        assert await place.messages.status(ident) == "pending"
        assert await pipeline.dead_letters(STREAM, GROUP).count() == 0


# --- suppressions


async def test_who_stopped_marketing_gets_none_and_everything_else(server, namespace):
    async with stage(server, namespace) as place:
        place.phone.faults = [Fault(131050, share=1.0)]
        first = await place.messages.add(
            PHONE, Text("oferta"), tenant="acme", category="marketing"
        )
        await status_is(place, first, "failed")
        place.phone.faults = []
        for tenant, category, to, wanted in (
            ("acme", "marketing", PHONE, "failed"),
            ("acme", "", PHONE, "sent"),
            ("other", "marketing", PHONE, "sent"),
            ("acme", "marketing", OTHER, "sent"),
        ):
            ident = await place.messages.add(
                to, Text("x"), tenant=tenant, category=category
            )
            await status_is(place, ident, wanted)
            if wanted == "failed":
                assert (await place.messages.show(ident)).reason == "suppressed"
        pipeline = place.application.pipeline.asynchronous
        list_of_them = Suppressions(pipeline)
        hashed = place.messages.hashed(Recipient.parse(PHONE))
        found = await list_of_them.find(hashed, "acme")
        assert (found.scope, found.reason, found.by) == (
            "marketing",
            "marketing_stopped",
            "provider",
        )
        assert await list_of_them.add(hashed, "acme", "all", reason="asked", by="me")
        assert not await list_of_them.add(
            hashed, "acme", "marketing", reason="again", by="me"
        )
        await status_is(
            place, await place.messages.add(PHONE, Text("x"), tenant="acme"), "failed"
        )
        assert list(await list_of_them.all()) == [("acme", hashed)]
        assert await list_of_them.remove(hashed, "acme")
        assert not await list_of_them.remove(hashed, "acme")
        await status_is(
            place,
            await place.messages.add(
                PHONE, Text("x"), tenant="acme", category="marketing"
            ),
            "sent",
        )
        # One letter: the refused one. What is suppressed needs nobody's look.
        assert await pipeline.dead_letters(STREAM, GROUP).count() == 1


async def test_a_category_or_scope_that_is_none_is_refused(server, namespace):
    async with stage(server, namespace) as place:
        await status_is(place, await place.messages.add(PHONE, Text("x")), "sent")
        with pytest.raises(InvalidMessage, match="category"):
            await place.messages.add(PHONE, Text("x"), category="spam")
        with pytest.raises(ConfigurationError, match="marketing"):
            await Suppressions(place.application.pipeline.asynchronous).add(
                "h", "t", "some", reason="", by=""
            )


# --- to be forgotten


async def test_a_person_is_forgotten_everywhere_and_others_are_not(server, namespace):
    async with stage(server, namespace, replace(QUICK, inbound=True)) as place:
        pipeline = place.application.pipeline.asynchronous
        control, hashed = (
            pipeline.broker.control,
            place.messages.hashed(Recipient.parse(PHONE)),
        )
        place.phone.faults = [Fault(131026, share=1.0)]
        for to in (PHONE, OTHER):
            await status_is(place, await place.messages.add(to, Text("dead")), "failed")
        place.phone.faults = []
        for to in (PHONE, OTHER):
            await status_is(place, await place.messages.add(to, Text("sent")), "sent")
            await place.messages.add(to, Text("scheduled"), delay=600.0)
        place.phone.faults = [Fault(131000, share=1.0)]
        for to in (PHONE, OTHER):
            await status_is(
                place,
                await place.messages.add(to, Text("waits"), retry_delay=600.0),
                "retrying",
            )
            # As the webhook application publishes it.
            header = {"recipient": place.messages.hashed(Recipient.parse(to))}
            await pipeline.publish(
                INBOUND_STREAM, {"sender": to}, type="message.received", headers=header
            )
        assert len(await place.messages.sent_to(PHONE)) == 4
        gone = await forget(
            pipeline, place.application.settings, Recipient.parse(PHONE), by="tester"
        )
        assert (gone.messages.stored, gone.messages.scheduled, gone.messages.dead) == (
            1,
            1,
            1,
        )
        # Four messages, one wamid, one list.
        assert (gone.inbound.stored, gone.tracked) == (1, 6)
        stored = await everything(control, namespace)
        assert PHONE.encode() not in stored
        assert OTHER.encode() in stored
        keys = b" ".join(await control.call("KEYS", f"{namespace}:*message*"))
        others = await place.messages.sent_to(OTHER)
        assert [record.status for record in others] == [
            "retrying",
            "pending",
            "sent",
            "failed",
        ]
        assert await place.messages.sent_to(PHONE) == []
        assert b"filed:" + hashed.encode() not in keys
        again = await forget(
            pipeline, place.application.settings, Recipient.parse(PHONE)
        )
        assert again.total == 0


async def test_dead_letters_go_after_their_time(server, namespace):
    async with stage(server, namespace) as place:
        place.phone.faults = [Fault(131026, share=1.0)]
        await status_is(place, await place.messages.add(PHONE, Text("x")), "failed")
        pipeline, settings = (
            place.application.pipeline.asynchronous,
            place.application.settings,
        )
        letters = pipeline.dead_letters(STREAM, GROUP)
        await eventually(letters.count, what="the letter")
        assert await expire(pipeline, settings) == 0
        pipeline.broker.clock.ahead += settings.dead_retention + 1
        assert await expire(pipeline, settings) == 1
        assert await letters.count() == 0


async def test_the_worker_lets_them_go_by_itself(server, namespace):
    """Without another call than running."""
    settings = replace(QUICK, dead_retention=60.0)
    async with stage(server, namespace, settings) as place:
        place.phone.faults = [Fault(131026, share=1.0)]
        await status_is(place, await place.messages.add(PHONE, Text("x")), "failed")
        letters = place.application.pipeline.asynchronous.dead_letters(STREAM, GROUP)
        await eventually(letters.count, what="the letter")
    application = Application(
        Settings(url=server.url, namespace=namespace),
        place.application.settings,
        environ={},
    )
    pipeline = application.pipeline.asynchronous
    async with pipeline:
        pipeline.broker.clock.ahead += 61.0
        running = asyncio.create_task(pipeline.run())
        letters = pipeline.dead_letters(STREAM, GROUP)

        async def none_left() -> bool:
            return await letters.count() == 0

        await eventually(none_left, what="no letter")
        pipeline.stop()
        await running
        await application.providers.close()


# --- the secret of lookups


def test_production_needs_a_lookup_key(tmp_path, caplog):
    environ = {
        "STREAMS_URL": "redis://127.0.0.1:1/0", "STREAMS_WHATSAPP_TOKEN": "t", "STREAMS_WHATSAPP_PHONE_NUMBER_ID": "p",
    }  # fmt: skip
    Application.from_env(environ, tmp_path)
    assert "STREAMS_WHATSAPP_LOOKUP_KEY" in caplog.text
    with pytest.raises(ConfigurationError, match="STREAMS_WHATSAPP_LOOKUP_KEY"):
        Application.from_env({**environ, "STREAMS_ENV": "production"}, tmp_path)
    caplog.clear()
    Application.from_env(
        {**environ, "STREAMS_WHATSAPP_LOOKUP_KEY": "s", "STREAMS_ENV": "production"},
        tmp_path,
    )
    assert "STREAMS_WHATSAPP_LOOKUP_KEY" not in caplog.text
