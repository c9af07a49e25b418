"""A cluster: the nodes of its slots, and a link that sends each command to the right node.

Imported when a URL names a cluster. The keys of a stream are in one slot, so that one node
serves each command.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
"""Share of a call's time that is kept for the answer to its last try.

A try with a millisecond left would be given up before a healthy node answers. The caller would
be told that it may have been stored, and all calls on the connection would lose their answers.
"""

_PATIENCE = 1.0
"""Seconds to wait for a node's list of slots: a hanging node must not use up a call's time."""


class Cluster:
    """The nodes of a cluster's slots, as far as they are known.

    Args:
        dial: connects to any node.
        seeds: nodes to ask first.
        leave: called when slots have moved, to drop connections to nodes without slots.
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
        """The options of connections."""
        return self._dial.options

    @property
    def user(self) -> str:
        """The servers' user."""
        return self._dial.user

    @property
    def credentials(self) -> Credentials:
        """The credentials, which are the same for each node."""
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
        """The node that serves a slot; None if none is known."""
        for first, last, node in self._ranges:
            if first <= slot <= last:
                return node

        return None

    def move(self, slot: int, node: Node) -> None:
        """Note the node of one slot, as another node announced it."""
        ranges = [(slot, slot, node)]
        for first, last, owner in self._ranges:
            if not first <= slot <= last:
                ranges.append((first, last, owner))
                continue

            if first < slot:
                ranges.append((first, slot - 1, owner))
            if slot < last:
                ranges.append((slot + 1, last, owner))

        self._ranges = sorted(ranges)

    async def connect(self, within: float, node: Node) -> Any:
        """A connected connection to a node.

        Raises:
            BrokerUnavailable: that node cannot be reached. Other nodes may be reachable.
        """
        try:
            return await self._dial.connect(within, host=node[0], port=node[1])
        except BrokerUnavailable as error:
            error = self._announced(error, node)
            error.server = _named(node)
            raise error from error.__cause__

    async def look(self, within: float, last: Node | None = None) -> None:
        """Ask the nodes, one after the other, for the nodes of all slots; ``last`` is asked last.

        Raises:
            BrokerUnavailable: no node answers.
            AccessDenied: a node refuses the credentials, or the user may not ask.
        """
        known = {*self.primaries, *self._others, *self._seeds}
        trouble: BrokerError = BrokerUnavailable("no node of the cluster is known")
        nodes = list(known)
        random.shuffle(nodes)
        nodes.sort(key=lambda node: node == last)

        for node in nodes:
            connect = partial(self.connect, min(within, _PATIENCE), node)
            link = NodeLink(connect, _PATIENCE, _nobody)

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
        """The same error, with the source of the address if that is not the URL."""
        if node in self._seeds or error.sent:
            return error

        said = (
            f"{error} (an address that the cluster announces: cluster-announce-ip,"
            " if it is not to be used from here)"
        )

        return BrokerUnavailable(said, sent=error.sent, server=error.server)

    def _adopt(self, reply: Sequence[Any], asked: Node) -> None:
        ranges = []
        others: set[Node] = set()
        for first, last, primary, *replicas in reply:
            ranges.append((int(first), int(last), _node(primary, asked)))
            others |= {_node(replica, asked) for replica in replicas}

        before = self._ranges
        self._ranges = sorted(ranges)
        self._others = tuple(others)
        self._answered = asked
        if before and before != self._ranges:
            self._leave(self.is_primary)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """The commands of one call, over all of its rounds.

    Attributes:
        commands: of the call.
        slots: the slot of each.
        replies: to each, as far as they have come; a ``Sign`` if it has to be sent again.
        until: when the call has to end, by the event loop's clock.
    """

    commands: Sequence[Command]
    slots: Sequence[int]
    replies: list[Any]
    until: float

    def seconds_left(self) -> float:
        """Seconds until the end of the call, and a little more than none."""
        return max(_SHORTEST, self.until - asyncio.get_running_loop().time())


class ClusterLink(Link):
    """Sends each command to the node that serves its slot, over one connection per node.

    A command that a node refused because its slot is elsewhere, or is being moved, is sent again
    to the right node. Commands of one batch for one node go out in one write.

    Args:
        cluster: the nodes of the slots.
        timeout: seconds for one round trip.
        home: a key; its slot's node serves the commands without keys.
        on_close: called when the link is closed for good.
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
            BrokerUnavailable: a node could not be reached, or its answer was lost. Other nodes
                may have carried out their commands.
        """
        if self._closed:
            raise BrokerUnavailable("the broker is closed")

        within = within or self._timeout
        until = asyncio.get_running_loop().time() + within
        batch = _Batch(
            commands=commands,
            slots=[self._slot(command) for command in commands],
            replies=[None] * len(commands),
            until=until,
        )

        left = await self._round(batch, list(range(len(commands))))

        if left:
            # In the order of the calls: nodes answer in that order.
            async with self._resending:
                await self._again(batch, left, until - _FOR_THE_ANSWER * within)

        return plain(batch.replies)

    async def close(self) -> None:
        """Close the connections for good. Idempotent."""
        self._closed = True
        self._errands.close()
        self._on_close(self)
        if self._looking is not None:
            # RuntimeError: its event loop has ended, and the task with it.
            with contextlib.suppress(RuntimeError):
                self._looking.get_loop().call_soon_threadsafe(self._looking.cancel)

        for link in list(self._links.values()):
            await link.close()

    async def rest(self) -> None:
        """Close the connections that are not in use; they open again when they are needed."""
        for link in list(self._links.values()):
            await link.rest()

    def leave(self, stay: Callable[[str, int], bool]) -> bool:
        """Drop the connections to nodes without slots; returns whether there are connections."""
        links = list(self._links.values())
        for link in links:
            link.leave(stay)

        return bool(links)

    async def primaries(self) -> dict[str, Link]:
        """A link to each node that serves slots; closing this link closes them."""
        await self._cluster.look(self._timeout)
        return {_named(node): self._link(node) for node in self._cluster.primaries}

    async def ask_any(self, *command: bytes | str | float) -> Any:
        """Ask one primary after the other, the one that answered last first, each for a second."""
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
        """The primary that serves a key's slot; '' if none is known."""
        node = self._cluster.owner(key_slot(key.encode()))
        return "" if node is None else _named(node)

    async def _again(self, batch: _Batch, left: list[int], last: float) -> None:
        """Repeat the commands that are ``left``; the ``last`` try begins before that time."""
        loop = asyncio.get_running_loop()
        wait, redirects = 0.005, 0

        while left and redirects < _REDIRECTS and loop.time() + wait < last:
            if any(isinstance(batch.replies[i], TryAgain) for i in left):
                await asyncio.sleep(wait)
                wait = min(2 * wait, 0.1)
            else:
                redirects += 1

            left = await self._round(batch, left)

    async def _round(self, batch: _Batch, left: list[int]) -> list[int]:
        """Send the commands that are ``left`` to their nodes; returns those to send again."""
        parts: dict[Node, list[int]] = {}
        for i in left:
            node = await self._place(batch.slots[i], batch.replies[i])
            parts.setdefault(node, []).append(i)

        trips = [self._trip(batch, node, part) for node, part in parts.items()]
        if len(trips) == 1:
            await trips[0]
        else:
            for outcome in await asyncio.gather(*trips, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

        again = (Redirected, TryAgain)
        return [i for i in left if isinstance(batch.replies[i], again)]

    async def _place(self, slot: int, before: Any) -> Node:
        if isinstance(before, Redirected) and before.once:
            return before.host, before.port

        node = self._cluster.owner(slot)
        if node is None:
            await self._cluster.look(self._timeout)
            node = self._cluster.owner(slot)

        if node is None:
            raise BrokerUnavailable(f"no node of the cluster serves slot {slot}")

        return node

    async def _trip(self, batch: _Batch, node: Node, part: list[int]) -> None:
        """One round trip to a node, with its part of the commands."""
        once = {i for i in part if _is_for_once(batch.replies[i])}
        lines: list[Command] = []

        for i in part:
            if i in once:
                lines.append(_ASKING)

            lines.append(batch.commands[i])

        try:
            answers = iter(await self._link(node).trip(lines, batch.seconds_left()))
        except BrokerUnavailable as error:
            error.server = _named(node)
            await self._look_again(node, batch.until)

            owners = {self._cluster.owner(batch.slots[i]) for i in part}
            if error.sent or once or owners == {node}:
                raise _of_node(error, node) from error

            # Nothing was sent, and by now another node serves some of the slots.
            for i in part:
                batch.replies[i] = TryAgain(str(error))

            return

        for i in part:
            if i in once:
                next(answers)  # The reply to ASKING.

            batch.replies[i] = self._read(next(answers), node)

        if any(isinstance(batch.replies[i], Down) for i in part):
            await self._look_again(node, batch.until)

    def _read(self, answer: Any, node: Node) -> Any:
        if isinstance(answer, BrokerUnavailable):
            answer.server = _named(node)

        if isinstance(answer, Redirected):
            answer.host = answer.host or node[0]
            if not answer.once:
                self._cluster.move(answer.slot, (answer.host, answer.port))

        return answer

    async def _look_again(self, lost: Node, until: float) -> None:
        """Ask for the nodes of slots again, within the rest of the call's time."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(
                self._look(lost), name="streams-looking"
            )

        left = until - asyncio.get_running_loop().time()
        await asyncio.wait((self._looking,), timeout=max(0.0, left))

    async def _look(self, lost: Node) -> None:
        # The caller raises the error of its command, not one of this look.
        with contextlib.suppress(BrokerError):
            await self._cluster.look(self._timeout, last=lost)

    def _slot(self, command: Command) -> int:
        slot = slot_of(command)
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


def _is_for_once(reply: Any) -> bool:
    """Whether the next try goes to a node that must be told so, by ASKING."""
    return isinstance(reply, Redirected) and reply.once


def _named(node: Node) -> str:
    return f"{node[0]}:{node[1]}"


def _of_node(error: BrokerUnavailable, node: Node) -> BrokerUnavailable:
    """The same error, with the name of the node."""
    name, text = _named(node), str(error)
    if name not in text:
        text = f"{name}: {text}"

    return BrokerUnavailable(text, sent=error.sent, server=name)


def _nobody(_: object) -> None:
    """The link is in no set that it must be taken out of."""


def _node(row: Sequence[Any], asked: Node) -> Node:
    """Host and port of a row; a node that does not know its own host has that of the asked one."""
    host = row[0].decode() if row[0] else "?"
    if host == "?":
        host = asked[0]

    return host, int(row[1])
