"""What blocking callers use, in processes of their own with settings from the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from streams.errors import ConfigurationError
from streams.whatsapp import WhatsAppSettings
from streams.whatsapp.instances import Instances
from tests.servers import Server

PHONE = "5511999990000"


def run(code: str, folder: Path, **environment: str) -> tuple[object, str]:
    """Run a program; returns the JSON of its last line, and what it logged."""
    wanted = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STREAMS_", "REDIS", "USE_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        cwd=folder,
        env=wanted | {"XDG_DATA_HOME": str(folder), **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


CALLS = f"""
    import json, time
    from streams.whatsapp import get_message_queue, get_message_worker, send_message_via_queue
    from streams.whatsapp.queue import reset

    queue = get_message_queue()
    worker = get_message_worker()
    worker.start()
    message_id = queue.add_message(phone="{PHONE}", message="Olá!", tenant_id=1, instance_id=1, priority=0,
                                   max_retries=3, retry_delay=5)
    result = send_message_via_queue(phone="{PHONE}", message="Olá!", tenant_id=1, priority=1, use_queue=True)
    while queue.get_status(message_id) != "sent" or queue.get_status(result["message_id"]) != "sent":
        time.sleep(0.02)
    direct = send_message_via_queue(phone="{PHONE}", message="Olá!", use_queue=False)
    refused = send_message_via_queue(phone="12", message="Olá!")
    while queue.get_processing_count():
        time.sleep(0.02)
    found = dict(result=result, direct=direct, refused=refused, stats=worker.get_stats(), size=queue.get_queue_size(),
                 unknown=queue.get_status("nothing"),
                 direct_status=queue.get_status(direct["message_id"]), status=queue.get_status(message_id))
    reset()
    print(json.dumps(found))
"""


def check(found: dict) -> None:
    ident = found["result"].pop("message_id")
    assert found["result"] == {"success": True, "via_queue": True}
    assert len(ident) == 32
    assert found["direct"]["success"]
    assert not found["direct"]["via_queue"]
    assert not found["refused"]["success"]
    assert "phone number with country code" in found["refused"]["error"]
    stats = found["stats"]
    assert (
        stats["processed"],
        stats["sent"],
        stats["failed"],
        stats["queue_size"],
        stats["processing"],
    ) == (
        *(3, 3, 0),
        *(0, 0),
    )
    assert stats["running"]
    assert stats["sent_directly"] == 1
    assert found["direct_status"] == "sent"
    assert found["size"] == 0
    assert found["unknown"] is None
    assert found["status"] == "sent"


def test_with_no_configuration_at_all(tmp_path):
    found, log = run(CALLS, tmp_path)
    check(found)
    assert "NOTHING IS SENT" in log
    assert PHONE not in log
    assert (tmp_path / "streams" / "whatsapp").is_dir()


def test_on_a_redis_named_by_the_callers_variables(server: Server, namespace, tmp_path):
    (tmp_path / ".env.local").write_text(f"USE_REDIS=true\nREDIS_URL={server.url}\n")
    found, _ = run(CALLS, tmp_path, STREAMS_NAMESPACE=namespace)
    check(found)
    assert not (tmp_path / "streams").exists()
    with server.client() as client:
        assert client.exists(f"{namespace}:{{whatsapp}}:config")


def test_a_redis_that_is_away_falls_back_loudly_or_not_at_all(tmp_path):
    away = {
        "USE_REDIS": "true",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "STREAMS_TIMEOUT": "1",
    }
    found, log = run(CALLS, tmp_path, **away)
    check(found)
    assert "EMBEDDED server" in log
    code = """
        import json
        from streams.whatsapp import get_message_queue, send_message_via_queue
        try:
            get_message_queue()
        except Exception as error:
            found = type(error).__name__
        print(json.dumps([found, send_message_via_queue("5511999990000", "x")]))
    """
    for more in (
        {"STREAMS_FALLBACK": "none"},
        {"STREAMS_ENV": "production", "STREAMS_WHATSAPP_LOOKUP_KEY": "s"},
    ):
        (error, result), log = run(code, tmp_path, **away, **more)
        assert error == "BrokerUnavailable"
        assert result["success"]
        assert not result["via_queue"]
        assert "sent directly" in log
        assert "fallback" in result


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"PROVIDER": "pigeon"}, "cloud, evolution or sandbox"),
        ({"PROVIDER": "cloud"}, "needs STREAMS_WHATSAPP_TOKEN"),
        (
            {"PROVIDER": "evolution", "TOKEN": "secret"},
            "needs STREAMS_WHATSAPP_BASE_URL",
        ),
        ({"RATE": "fast"}, "rate is a count"),
        ({"BURST": "many"}, "STREAMS_WHATSAPP_BURST"),
        ({"TIMEOUT": "0"}, "STREAMS_WHATSAPP_TIMEOUT"),
        ({"UNKNOWN_POLICY": "guess"}, "fail or resend"),
        ({"INBOUND": "perhaps"}, "true or false"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(tmp_path, values, match):
    environ = {f"STREAMS_WHATSAPP_{name}": value for name, value in values.items()}
    with pytest.raises(ConfigurationError, match=match) as refused:
        WhatsAppSettings.from_env(environ, tmp_path)
    assert "secret" not in str(refused.value)


def test_a_token_and_a_number_alone_mean_cloud(tmp_path):
    environ = {
        "STREAMS_WHATSAPP_TOKEN": "secret",
        "STREAMS_WHATSAPP_PHONE_NUMBER_ID": "42",
    }
    settings = WhatsAppSettings.from_env(environ, tmp_path)
    instance = Instances(settings, {}).get("any")
    assert instance is not None
    assert (instance.provider, instance.called) == ("cloud", "42")
    assert "secret" not in repr(settings) + repr(instance)


def test_instances_are_read_from_a_file(tmp_path):
    (tmp_path / "token").write_text("from-file\n")
    path = tmp_path / "instances.toml"
    path.write_text(
        f'[instances.1]\nprovider = "cloud"\nname = "42"\ntoken_file = "{tmp_path / "token"}"\nwaba = "w"\n'
        '[instances.2]\nprovider = "evolution"\nname = "shop"\nbase_url = "http://x"\ntoken_env = "T"\n'
    )
    instances = Instances(WhatsAppSettings(instances=str(path)), {"T": "from-env"})
    assert [(i.id, i.token) for i in instances.all()] == [
        ("1", "from-file"),
        ("2", "from-env"),
    ]
    assert instances.waba_of("1") == "w"
    assert instances.waba_of("2") is None
    assert instances.get("3") is None


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x", "no TOML"),
        ("a = 1", "names no instances"),
        ('[instances.1]\nprovider = "pigeon"', "provider is"),
        ('[instances.1]\nprovider = "cloud"', "give token_env or token_file"),
        ('[instances.1]\ntoken = "secret"', "secrets by reference only"),
        ('[instances.1]\nprovider = "cloud"\ntoken_env = "NOT_SET"', "is not set"),
        (
            '[instances.1]\nprovider = "cloud"\ntoken_file = "/nowhere"',
            "cannot be read",
        ),
        ('[instances.1]\nprovider = "evolution"\ntoken_env = "T"', "needs base_url"),
    ],
)
def test_files_of_instances_that_cannot_be_are_refused(tmp_path, text, match):
    path = tmp_path / "instances.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=match):
        Instances(WhatsAppSettings(instances=str(path)), {"T": "t"})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Instances(WhatsAppSettings(instances=str(tmp_path / "nowhere")), {})


def test_an_idempotency_key_holds_over_both_ways(server: Server, namespace, tmp_path):
    """Queued, sent directly, and queued again: one message per key."""
    code = f"""
        import json
        from streams.whatsapp import get_message_queue, send_message_via_queue
        from streams.whatsapp.queue import process, reset

        queue = get_message_queue()
        first = queue.add_message("{PHONE}", "x", idempotency_key="a")
        again = send_message_via_queue("{PHONE}", "x", use_queue=False, idempotency_key="a")
        direct = send_message_via_queue("{PHONE}", "x", use_queue=False, idempotency_key="b")
        repeated = [send_message_via_queue("{PHONE}", "x", use_queue=False, idempotency_key="b"),
                    queue.add_message("{PHONE}", "x", idempotency_key="b")]
        process.queued.clear(), process.directly_sent.clear()  # As another process, which asks the server.
        elsewhere = [send_message_via_queue("{PHONE}", "x", use_queue=False, idempotency_key="a"),
                     send_message_via_queue("{PHONE}", "x", use_queue=False, idempotency_key="b"),
                     queue.add_message("{PHONE}", "x", idempotency_key="b")]
        found = dict(first=first, again=again, direct=direct, repeated=repeated, elsewhere=elsewhere,
                     size=queue.get_queue_size(), status=queue.get_status(direct["message_id"]))
        reset()
        print(json.dumps(found))
    """
    found, _ = run(
        code,
        tmp_path,
        USE_REDIS="true",
        REDIS_URL=server.url,
        STREAMS_NAMESPACE=namespace,
    )
    queued, direct = found["first"], found["direct"]["message_id"]
    assert found["again"] == {
        "success": True,
        "via_queue": False,
        "message_id": queued,
        "duplicate": True,
    }
    assert found["direct"]["success"]
    assert [found["repeated"][0]["message_id"], found["repeated"][1]] == [
        direct,
        direct,
    ]
    assert [row["message_id"] for row in found["elsewhere"][:2]] == [queued, direct]
    assert found["elsewhere"][2] == direct
    assert (found["size"], found["status"]) == (1, "sent")
