"""``streams pause``, ``resume`` and ``cancel`` as their users meet them."""

from __future__ import annotations

from tests.process.commands import Cli, cli, server  # noqa: F401 - fixtures


def registered(cli: Cli, server, group: str = "billing") -> str:  # noqa: F811
    """A stream with one event and a group; returns the start of its keys."""
    cli("publish", "orders", "--type", "order", "--data", "1")
    root = f"{cli.env['STREAMS_NAMESPACE']}:{{orders}}"
    with server.client() as client:
        for level in (0, 1, 5, 10):
            client.xgroup_create(f"{root}:{level}", group, id="0", mkstream=True)
    return root


def test_pause_shows_and_resumes(cli, server):  # noqa: F811
    root = registered(cli, server)
    assert cli(
        "pause", "orders", "--group", "billing", "--reason", "bank\nis down"
    ).stdout == ("paused orders, group billing\n")
    with server.client() as client:
        assert set(client.hgetall(f"{root}:paused")) == {b"group=billing"}
    again = cli("pause", "orders", "--group", "billing", USER="bob").stdout
    assert again.startswith("orders, group billing was paused already, by ada since 20")
    assert again.endswith(": bank is down\n")
    made = cli.json("pause", "orders", "--level", "5")
    assert {
        name: made[name]
        for name in ("stream", "new", "scope", "group", "level", "by", "reason")
    } == {
        "stream": "orders",
        "new": True,
        "scope": "level=5",
        "group": "",
        "level": 5,
        "by": "ada",
        "reason": "",
    }
    shown = cli("ls", "orders").stdout
    assert shown.count("paused ") == 4  # On each level of its only group.
    assert "paused: orders, group billing, by ada since 20" in shown
    assert "bank is down" in shown
    row = cli.json("ls", "orders")["streams"][0]
    assert [pause["scope"] for pause in row["paused"]] == ["group=billing", "level=5"]
    assert row["paused"][0]["reason"] == "bank\nis down"
    assert all(level["paused"] for level in row["groups"][0]["levels"])
    ended = cli("resume", "orders", "--group", "billing")
    assert ended.stdout.startswith("resumed orders, group billing, by ada since 20")
    assert ended.stderr.startswith("still paused: orders, level 5, by ada since 20")
    assert [
        level["level"]
        for level in cli.json("ls")["streams"][0]["groups"][0]["levels"]
        if level["paused"]
    ] == [5]
    outcome = cli.json("resume", "orders", "--all")
    assert [pause["scope"] for pause in outcome["resumed"]] == ["level=5"]
    assert outcome["remaining"] == []
    assert (
        cli("resume", "orders").stdout == "nothing was resumed: orders is not paused\n"
    )
    assert "paused" not in cli("ls", "orders").stdout


def test_pause_refuses_what_is_not_there(cli, server):  # noqa: F811
    registered(cli, server)
    assert "there are: orders" in cli.refused("pause", "order", code=3)
    assert "it has: billing" in cli.refused(
        "pause", "orders", "--group", "biling", code=3
    )
    assert "it has: 10, 5, 1, 0" in cli.refused(
        "resume", "orders", "--level", "7", code=3
    )
    assert "--all" in cli.refused("resume", "orders", "--all", "--level", "5", code=2)
    assert "500" in cli.refused("pause", "orders", "--reason", "x" * 501, code=2)


def test_cancel_takes_out_and_refuses(cli, server):  # noqa: F811
    registered(cli, server)
    args = ("publish", "orders", "--type", "order", "--data", "1", "--delay", "60")
    first, second = (cli.json(*args)["event_id"] for _ in range(2))
    assert cli("cancel", "orders", first).stdout.startswith(
        f"cancelled {first} on orders, level 0: it was scheduled, due "
    )
    outcome = cli.json("cancel", "orders", second, first, code=1)
    assert [(row["id"], row["state"]) for row in outcome["cancelled"]] == [
        (second, "scheduled")
    ]
    assert [(row["id"], row["state"]) for row in outcome["refused"]] == [(first, None)]
    assert cli.json("ls", "orders")["streams"][0]["scheduled"] == 0
    assert "no more: it was cancelled by ada at 2" in cli.refused(
        "cancel", "orders", first, code=3
    )
    waiting = cli.json("publish", "orders", "--type", "order", "--data", "1")[
        "event_id"
    ]
    assert "is pending in group billing: it has not started" in cli.refused(
        "cancel", "orders", waiting, code=1
    )
