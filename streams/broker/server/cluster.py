"""A cluster: which node serves which slot, and a link that sends each command there.

Imported when a URL names a cluster. The keys of a stream are in one slot, so a command has one place to go to.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from streams.broker.server.client import key_slot
from streams.broker.server.credentials import Credentials
from streams.broker.server.dial import Dial
from streams.broker.server.kinds import no_node
from streams.broker.server.link import Down, Link, NodeLink, Redirected, TryAgain, plain
from streams.broker.server.scripts import Command
from streams.broker.server.slots import slot_of
from streams.errors import BrokerError, BrokerUnavailable, CommandRefused

Node = tuple[str, int]
Leave = Callable[[Callable[[str, int], bool]], bool]

_REDIRECTS = 16
_ASKING = ("ASKING",)
_SHORTEST = 0.001
_FOR_THE_ANSWER = 0.25
"""Share of a call's time that is kept for the answer to its last try: one that is sent with a millisecond left would be
given up before a healthy node answers. What is surely not stored would be said to be unknown, and the connection would
be closed on all others who wait for theirs."""

_PATIENCE = 1.0
"""Seconds to wait for one node's word on the slots: a node that hangs must not use up the time of a round trip."""


class Cluster:
    """Which node serves which slot, as far as is known.

    Args:
        dial: how to connect to a node, wherever it is.
        seeds: nodes to ask first.
        leave: told, when slots have another node than before, to leave all that serve none.
    """

    def __init__(self, dial: Dial, seeds: Sequence[Node], leave: Leave) -> None:
        self._dial = dial
        self._seeds = tuple(seeds)
        self._leave = leave
        self._ranges: list[tuple[int, int, Node]] = []
        self._others: tuple[Node, ...] = ()
        self._answered: Node | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        """What connections are made with."""
        return self._dial.options

    @property
    def user(self) -> str:
        """The servers' user."""
        return self._dial.user

    @property
    def credentials(self) -> Credentials:
        """What is known of the credentials, which are the same for each node."""
        return self._dial.credentials

    @property
    def primaries(self) -> list[Node]:
        """The nodes that serve slots."""
        return sorted({node for _, _, node in self._ranges})

    def by_answer(self) -> list[Node]:
        """The nodes that serve slots, first the one that answered last."""
        return sorted(self.primaries, key=lambda node: node != self._answered)

    def is_primary(self, host: str, port: int) -> bool:
        """Whether this node serves slots."""
        return any(node == (host, port) for _, _, node in self._ranges)

    def owner(self, slot: int) -> Node | None:
        """Who serves a slot; None: nobody, as far as is known."""
        for first, last, node in self._ranges:
            if first <= slot <= last:
                return node
        return None

    def move(self, slot: int, node: Node) -> None:
        """Take over what a node said about one slot."""
        ranges = []
        for first, last, owner in self._ranges:
            if first <= slot <= last:
                ranges += [(first, slot - 1, owner)] if first < slot else []
                ranges += [(slot + 1, last, owner)] if slot < last else []
            else:
                ranges.append((first, last, owner))
        self._ranges = sorted([*ranges, (slot, slot, node)])

    async def connect(self, within: float, node: Node) -> Any:
        """A connected connection to a node.

        Raises:
            BrokerUnavailable: that node cannot be reached; the others may well be.
        """
        try:
            return await self._dial.connect(within, host=node[0], port=node[1])
        except BrokerUnavailable as error:
            error = self._announced(error, node)
            error.server = _named(node)
            raise error from error.__cause__

    async def look(self, within: float, last: Node | None = None) -> None:
        """Ask the nodes, one after the other, who serves which slot; ``last`` is asked last.

        Raises:
            BrokerUnavailable: none answers.
            AccessDenied: a node refuses the credentials, or the user may not ask.
        """
        known = {*self.primaries, *self._others, *self._seeds}
        trouble: BrokerError = BrokerUnavailable("no node of the cluster is known")
        for node in sorted(known, key=lambda node: (node == last, random.random())):  # noqa: S311 - no secret
            link = NodeLink(
                partial(self.connect, min(within, _PATIENCE), node), _PATIENCE, _nobody
            )
            try:
                reply = await link.call("CLUSTER", "SLOTS")
            except BrokerUnavailable as error:
                trouble = error
                continue
            except CommandRefused as error:
                raise no_node(node, error) from error
            finally:
                await link.close()
            if reply:
                self._adopt(reply, node)
                return
            trouble = BrokerUnavailable(
                f"{node[0]}:{node[1]} serves no slot: the cluster has not been made yet"
            )
        raise trouble

    def _announced(self, error: BrokerUnavailable, node: Node) -> BrokerUnavailable:
        """The same, saying where the address is from, if it is not from the URL."""
        if node in self._seeds or error.sent:
            return error
        said = (
            f"{error} (an address that the cluster announces: cluster-announce-ip,"
            " if it is not to be used from here)"
        )
        return BrokerUnavailable(said, sent=error.sent, server=error.server)

    def _adopt(self, reply: Sequence[Any], asked: Node) -> None:
        ranges, others = [], set()
        for first, last, primary, *replicas in reply:
            ranges.append((int(first), int(last), _node(primary, asked)))
            others |= {_node(replica, asked) for replica in replicas}
        before, self._ranges, self._others = self._ranges, sorted(ranges), tuple(others)
        self._answered = asked
        if before and before != self._ranges:
            self._leave(self.is_primary)


class ClusterLink(Link):
    """A connection to each node that is needed, and each command to the node that serves its slot.

    What a node did not do because the slot is elsewhere, or on its way, is sent again to where it is. Commands of one
    batch for one node go out in one write.

    Args:
        cluster: who knows where slots are.
        timeout: seconds for one round trip.
        home: key whose slot serves what has no key.
        on_close: told when the link is closed for good.
        depth: as of ``NodeLink``, per node.
    """

    def __init__(
        self,
        cluster: Cluster,
        timeout: float,
        home: str,
        on_close: Callable[[ClusterLink], None],
        depth: int = 1,
    ) -> None:
        super().__init__()
        self._cluster = cluster
        self._timeout = timeout
        self._home = key_slot(home.encode())
        self._on_close = on_close
        self._depth = depth
        self._links: dict[Node, NodeLink] = {}
        self._resending = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    async def batch(
        self, commands: Sequence[Command], *, within: float | None = None
    ) -> list[Any]:
        """Send commands, and return their replies; a refusal stands in its reply's place.

        Raises:
            BrokerUnavailable: a node could not be reached, or its answer was lost; others may have done their part.
        """
        if self._closed:
            raise BrokerUnavailable("the broker is closed")
        slots = [slot_of(command) for command in commands]
        replies: list[Any] = [None] * len(commands)
        within = within or self._timeout
        until = asyncio.get_running_loop().time() + within
        left = await self._round(
            commands, slots, replies, list(range(len(commands))), until
        )
        if left:
            # In the order of the calls: nodes answer in that order.
            async with self._resending:
                last = until - _FOR_THE_ANSWER * within
                await self._again(commands, slots, replies, left, last, until)
        return plain(replies)

    async def close(self) -> None:
        """Close the connections for good. Idempotent."""
        self._closed = True
        self._errands.close()
        self._on_close(self)
        if self._looking is not None:
            # Its event loop has ended, and it with that.
            with contextlib.suppress(RuntimeError):
                self._looking.get_loop().call_soon_threadsafe(self._looking.cancel)
        for link in list(self._links.values()):
            await link.close()

    async def rest(self) -> None:
        """Close the connections until they are needed again, those that are not in use."""
        for link in list(self._links.values()):
            await link.rest()

    def leave(self, stay: Callable[[str, int], bool]) -> bool:
        """Drop the connections to nodes that serve no slot any more; returns whether there are any."""
        links = list(self._links.values())
        for link in links:
            link.leave(stay)
        return bool(links)

    async def primaries(self) -> dict[str, Link]:
        """A link to each node that serves slots; they are closed with this one."""
        await self._cluster.look(self._timeout)
        return {_named(node): self._link(node) for node in self._cluster.primaries}

    async def ask_any(self, *command: bytes | str | float) -> Any:
        """Ask one primary after the other, first the one that answered last; one that hangs is not waited for long."""
        if not self._cluster.primaries:
            await self._cluster.look(self._timeout)
        patience = min(self._timeout, _PATIENCE)
        trouble = BrokerUnavailable("no node of the cluster is known")
        for node in self._cluster.by_answer():
            try:
                async with asyncio.timeout(patience):
                    return await self._link(node).call(*command)
            except BrokerUnavailable as error:
                trouble = error
            except TimeoutError:
                trouble = BrokerUnavailable(
                    f"{_named(node)}: no answer within {patience:g} s",
                    server=_named(node),
                )
        raise trouble

    def server_of(self, key: str) -> str:
        """The primary that serves a key's slot, as far as is known."""
        node = self._cluster.owner(key_slot(key.encode()))
        return "" if node is None else _named(node)

    async def _again(
        self,
        commands: Sequence[Command],
        slots: Sequence[int | None],
        replies: list[Any],
        left: list[int],
        last: float,
        until: float,
    ) -> None:
        """Send what is left again and again; the ``last`` try begins before that time."""
        loop = asyncio.get_running_loop()
        wait, redirects = 0.005, 0
        while left and redirects < _REDIRECTS and loop.time() + wait < last:
            if any(isinstance(replies[i], TryAgain) for i in left):
                await asyncio.sleep(wait)
                wait = min(2 * wait, 0.1)
            else:
                redirects += 1
            left = await self._round(commands, slots, replies, left, until)

    async def _round(
        self,
        commands: Sequence[Command],
        slots: Sequence[int | None],
        replies: list[Any],
        left: list[int],
        until: float,
    ) -> list[int]:
        """Send what is left to where it belongs; returns what has to be sent again."""
        places: dict[Node, list[int]] = {}
        for i in left:
            places.setdefault(await self._place(slots[i], replies[i]), []).append(i)
        trips = [
            self._trip(node, commands, slots, replies, part, until)
            for node, part in places.items()
        ]
        if len(trips) == 1:
            await trips[0]
        else:
            for outcome in await asyncio.gather(*trips, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
        return [i for i in left if isinstance(replies[i], (Redirected, TryAgain))]

    async def _place(self, slot: int | None, before: Any) -> Node:
        if isinstance(before, Redirected) and before.once:
            return before.host, before.port
        slot = self._home if slot is None else slot
        node = self._cluster.owner(slot)
        if node is None:
            await self._cluster.look(self._timeout)
            node = self._cluster.owner(slot)
        if node is None:
            raise BrokerUnavailable(f"no node of the cluster serves slot {slot}")
        return node

    async def _trip(
        self,
        node: Node,
        commands: Sequence[Command],
        slots: Sequence[int | None],
        replies: list[Any],
        part: list[int],
        until: float,
    ) -> None:
        asking = [isinstance(replies[i], Redirected) and replies[i].once for i in part]
        lines: list[Command] = []
        for i, once in zip(part, asking, strict=True):
            lines += (_ASKING, commands[i]) if once else (commands[i],)
        try:
            answers = await self._link(node).trip(
                lines, max(_SHORTEST, until - asyncio.get_running_loop().time())
            )
        except BrokerUnavailable as error:
            error.server = _named(node)
            await self._look_again(node, until)
            if (
                error.sent
                or all(self._cluster.owner(self._slot(slots[i])) == node for i in part)
                or any(asking)
            ):
                raise _of_node(error, node) from error
            # Nothing was sent, and by now somebody else serves the slots.
            for i in part:
                replies[i] = TryAgain(str(error))
            return
        at = 0
        for i, once in zip(part, asking, strict=True):
            at += once
            replies[i] = self._read(answers[at], node)
            at += 1
        if any(isinstance(replies[i], Down) for i in part):
            await self._look_again(node, until)

    def _read(self, answer: Any, node: Node) -> Any:
        if isinstance(answer, BrokerUnavailable):
            answer.server = _named(node)
        if isinstance(answer, Redirected):
            answer.host = answer.host or node[0]
            if not answer.once:
                self._cluster.move(answer.slot, (answer.host, answer.port))
        return answer

    async def _look_again(self, lost: Node, until: float) -> None:
        """Ask who serves the slots now. The call waits for that no longer than its own time; the next one profits."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(
                self._look(lost), name="streams-looking"
            )
        await asyncio.wait(
            (self._looking,),
            timeout=max(0.0, until - asyncio.get_running_loop().time()),
        )

    async def _look(self, lost: Node) -> None:
        # What is raised is why the command failed.
        with contextlib.suppress(BrokerError):
            await self._cluster.look(self._timeout, last=lost)

    def _slot(self, slot: int | None) -> int:
        return self._home if slot is None else slot

    def _link(self, node: Node) -> NodeLink:
        link = self._links.get(node)
        if link is None:
            connect = partial(self._cluster.connect, self._timeout, node)
            known = self._cluster.credentials
            link = self._links[node] = NodeLink(
                connect, self._timeout, _nobody, self._depth, credentials=known
            )
        return link


def _named(node: Node) -> str:
    return f"{node[0]}:{node[1]}"


def _of_node(error: BrokerUnavailable, node: Node) -> BrokerUnavailable:
    """The same, naming the node: the others may well be there."""
    name, text = _named(node), str(error)
    return BrokerUnavailable(
        text if name in text else f"{name}: {text}", sent=error.sent, server=name
    )


def _nobody(_: object) -> None:
    """Nobody needs to know that it is closed."""


def _node(row: Sequence[Any], asked: Node) -> Node:
    """Host and port of a row; a node that does not know its own name has the one under which it was asked."""
    host = row[0].decode() if row[0] else ""
    return ("" if host == "?" else host) or asked[0], int(row[1])
