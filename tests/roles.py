"""Each part of the package as the user of the role that it plays: publishers, workers, operators.

On a server with a user per role, the suite then shows that what a role may do is enough for it. Whose connection it is,
is told by the module that asks for it.
"""

from __future__ import annotations

import sys
import types

import pytest

from streams.broker import Broker
from streams.broker.server.dial import Dial
from streams.broker.server.link import Link, NodeLink

TESTER = "tester"
"""May do everything: for what tests look at by themselves, time travel, and the doctor, who may lack anything."""
PLAYS = {
    f"streams.broker.{module}": TESTER
    for module in ("access", "connection", "diagnose", "strays", "testing")
}
PLAYS |= {"streams.broker.publish": "producer"} | {
    f"streams.broker.{module}": "worker"
    for module in (
        "admit", "attend", "claims", "declare", "dedup", "ears", "fetch", "figures", "holding", "lookout", "probe",
        "reclaim", "records", "redeclare", "settle", "tracking", "watermarks",
    )
}  # fmt: skip
"""Every other module of the package is an operator, and everybody else a tester."""


def role_of(module: str) -> str:
    """Whose connection a module gets."""
    return PLAYS.get(module, "operator") if module.startswith("streams.") else TESTER


def play_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection be that of the role that its module plays."""
    plain_link = Broker.link
    controls: dict[tuple[int, str, int], Link] = {}

    def link_of(broker: Broker, role: str, depth: int) -> Link:
        if not broker.url.startswith(f"redis://{TESTER}:secret@"):
            return plain_link(broker, depth)
        dial = Dial(broker.address, broker.url.replace(TESTER, role, 1))
        connect = types.MethodType(lambda owner: dial.connect(owner._timeout), broker)
        link = NodeLink(connect, broker._timeout, broker._links.discard, depth)
        broker._links.add(link)
        return link

    def link(self: Broker, depth: int = 1) -> Link:
        module = sys._getframe(1).f_globals["__name__"]
        role = role_of(module)
        return link_of(self, role, depth)

    def for_all(self: Broker, depth: int) -> Link:
        module = sys._getframe(2).f_globals["__name__"]
        # The scheduler.
        role = "worker" if module == "streams.broker.publish" else role_of(module)
        found = controls.get((id(self), role, depth))
        if found is None or found not in self._links:
            found = controls[id(self), role, depth] = link_of(self, role, depth)
        return found

    def control(self: Broker) -> Link:
        return for_all(self, 1)

    def shared(self: Broker) -> Link:
        return for_all(self, 32)

    monkeypatch.setattr(Broker, "link", link)
    monkeypatch.setattr(Broker, "control", property(control))
    monkeypatch.setattr(Broker, "shared", property(shared))
