"""``streams groups`` as its users meet it."""

from __future__ import annotations

from streams.broker.keys import Keys
from tests.process.commands import cli, server  # noqa: F401 - fixtures


def declared(cli, server) -> Keys:  # noqa: F811
    keys = Keys("orders", cli.env["STREAMS_NAMESPACE"])
    cli("publish", "orders", "--type", "order", "--data", "1")
    with server.client() as client:
        facts = '{"start":"oldest","since":1893456000}'
        client.hset(
            keys.config(),
            mapping={
                "retention": "fanout",
                "group:billing": facts,
                "group:shipping": facts,
            },
        )
        for level in (0, 1, 5, 10):
            client.xgroup_create(keys.level(level), "billing", id="0", mkstream=True)
        client.xreadgroup("billing", "c", {keys.level(0): ">"})
        client.xack(
            keys.level(0),
            "billing",
            *(entry for entry, _ in client.xrange(keys.level(0))),
        )
    return keys


def test_ls_names_what_is_missing(cli, server):  # noqa: F811
    declared(cli, server)
    shown = cli("groups", "ls", "orders").stdout
    assert shown.startswith("orders: retention fanout\n")
    assert "missing" in next(
        line for line in shown.splitlines() if line.startswith("shipping")
    )
    assert "declared" in next(
        line for line in shown.splitlines() if line.startswith("billing")
    )
    facts = cli.json("groups", "ls", "orders")
    assert facts["retention"] == "fanout"
    assert [
        (row["group"], row["present"], row["abandoned"]) for row in facts["groups"]
    ] == [
        ("billing", True, False),
        ("shipping", False, True),
    ]
    assert "there are: orders" in cli.refused("groups", "ls", "order", code=3)


def test_drop_gives_up_and_says_what(cli, server):  # noqa: F811
    keys = declared(cli, server)
    assert "give --yes" in cli.refused("groups", "drop", "orders", "shipping", code=2)
    assert "in use by c" in cli.refused(
        "groups", "drop", "orders", "billing", "--yes", code=1
    )
    outcome = cli.json("groups", "drop", "orders", "shipping", "--yes")
    assert outcome == {
        "stream": "orders", "group": "shipping", "dropped": True, "given_up": 0, "trimmed": 1, "dead": 0,
    }  # fmt: skip
    with server.client() as client:
        assert client.xlen(keys.level(0)) == 0
    assert "it has: billing" in cli.refused(
        "groups", "drop", "orders", "shipping", "--yes", code=3
    )
    assert cli(
        "groups", "drop", "orders", "billing", "--yes", "--force"
    ).stdout.startswith("dropped billing of orders: 0")
