"""The doctor: looks at the server and its streams, and says what is wrong, with figures and what to do.

Examining is read only, and safe on a busy server: the cost does not grow with what is stored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streams.admin.pauses import Pauses
from streams.admin.status import Status
from streams.admin.why import Why
from streams.broker import Broker
from streams.broker.admin.access import Accessing
from streams.broker.admin.diagnose import Denied, Diagnosing
from streams.broker.admin.figures import FigureStore
from streams.broker.admin.watermarks import Marking
from streams.broker.server.connection import EMBEDDED
from streams.broker.server.shards import Away, away_index, each
from streams.doctor import servers
from streams.doctor.agreement import judge_agreement
from streams.doctor.finding import (
    ORDER,
    SERVER_CODES,
    STREAM_CODES,
    Bounds,
    Finding,
    Severity,
)
from streams.doctor.leftovers import judge_losses
from streams.doctor.running import judge_runs
from streams.doctor.stream import judge_stream
from streams.errors import AccessDenied, BrokerUnavailable, NotFound, WrongKeyType

if TYPE_CHECKING:
    from streams.broker.server.link import Link

__all__ = ["ORDER", "Bounds", "Doctor", "Finding", "Severity"]


class Doctor:
    """Examines a server.

    Args:
        broker: an open broker.
        bounds: from where on something is found.
        role: what the broker's user is used for: ``producer``, ``worker`` or ``operator``.

    Attributes:
        checks: how many checks the last examination made.
    """

    def __init__(
        self, broker: Broker, bounds: Bounds | None = None, role: str = "worker"
    ) -> None:
        self._broker = broker
        self._bounds = bounds or Bounds()
        self._role = role
        self._diagnosing = Diagnosing(broker)
        self.checks = 0

    async def about(self) -> dict[str, str]:
        """What it is connected to: ``address`` (without password), ``server``, ``version`` and ``topology``.

        One command, two where the server or its user does not know the first, and one more for a cluster. Server and
        version are '' where the server does not tell.
        """
        broker = self._broker
        facts = await broker.facts()
        topology = "single server"
        if broker.url.startswith(EMBEDDED):
            topology = "embedded server"
        elif broker.is_spread:
            topology = f"cluster, {len(await broker.primaries())} primaries"
        elif "+sentinel:" in broker.address:
            topology = "primary that the Sentinels name"
        if facts.get("role") in ("slave", "replica"):
            topology += ", a replica"
        return {
            "address": broker.address,
            "server": facts.get("server", ""),
            "version": facts.get("version", ""),
            "topology": topology,
        }

    async def examine(self, stream: str = "") -> list[Finding]:
        """Everything that can be found, the worst first; what may not be looked at is a finding ``unknown``.

        Commands: 6 for each server that has a part of the keys, 6 more where a restart depends on what its default user
        may do, one per permission of the role and three; per stream
        6, 5 per level, 4 more per level and group, 7 per group, and one per watermark;
        2, 1 per level, 2 per level and group and 1 per group for what waits for nothing, and more only if something
        waits for long; 1 per group for what workers say.

        Args:
            stream: only this one besides the server; '': all.

        Raises:
            NotFound: there is no such stream.
        """
        self.checks = len(SERVER_CODES)
        streams, findings = await self._streams(stream)
        for name, link in (await self._broker.primaries()).items():
            findings += await self._primary(name, link)
        findings += await self._access(
            next((f"{name}|{levels[0]}" for name, levels in streams.items()), "")
        )
        self.checks += len(STREAM_CODES) * len(streams)
        found, away = await each(
            self._broker, streams, lambda name: self._stream(name, streams[name])
        )
        findings += [finding for some in found for finding in some]
        findings += [servers.away_streams(shard) for shard in away]
        return sorted(
            findings,
            key=lambda found: (ORDER.index(found.severity), found.where, found.code),
        )

    async def _streams(self, stream: str) -> tuple[dict[str, list[int]], list[Finding]]:
        """Those that are to be looked at."""
        status = Status(self._broker)
        try:
            return (
                await status.streams_of(stream) if stream else await status.streams()
            ), []
        except AccessDenied:
            return {}, [_unknown("streams", servers.WHERE, Denied("smembers"))]
        except BrokerUnavailable as error:
            away = away_index(error)
            return {}, [
                servers.away_streams(Away(away.shard, (stream,)) if stream else away)
            ]

    async def _primary(self, name: str, link: Link) -> list[Finding]:
        try:
            found = await self._server(Diagnosing(self._broker, link))
        except BrokerUnavailable as error:
            if not name:
                raise
            return [servers.away(name, str(error))]
        return [
            replace(one, where=f"{one.where} {name}") if name else one for one in found
        ]

    async def _server(self, diagnosing: Diagnosing) -> list[Finding]:
        try:
            findings = list(servers.judge_skew(await diagnosing.skew(), self._bounds))
        except AccessDenied:
            findings = [_unknown("clock", servers.WHERE, Denied("time"))]
        info = await diagnosing.info()
        if isinstance(info, Denied):
            return [*findings, _unknown("server", servers.WHERE, info)]
        config = await diagnosing.config("save", "appendfsync", "min-replicas-to-write")
        if isinstance(config, Denied):
            findings.append(_unknown("persistence", servers.WHERE, config))
        if servers.depends_on_default_user(info):
            refused = await diagnosing.refused_to_default()
            if isinstance(refused, Denied):
                findings.append(_unknown("default-user", servers.WHERE, refused))
            else:
                findings += servers.judge_default_user(info, refused)
        return [
            *findings,
            *servers.judge_version(info),
            *servers.judge_persistence(info, config),
            *servers.judge_memory(info, self._bounds),
            *servers.judge_replication(info, config, self._bounds),
        ]

    async def _access(self, member: str) -> list[Finding]:
        if self._broker.url.startswith(EMBEDDED):
            # A server of this user alone, behind a socket that nobody else may open.
            return []
        try:
            access = await Accessing(self._broker).access(self._role, member)
        except BrokerUnavailable as error:
            if not error.server:
                raise
            what = f"not looked at: shard {error.server}, which would be asked, is away"
            return [
                Finding(
                    "permissions",
                    "unknown",
                    servers.WHERE,
                    what,
                    "look again when it is back",
                )
            ]
        return [
            *servers.judge_access(
                access, self._broker.user, self._role, self._broker.namespace
            ),
            *servers.judge_transport(self._broker.address),
        ]

    async def _stream(self, name: str, levels: list[int]) -> list[Finding]:
        facts = await self._diagnosing.stream(name, levels)
        if isinstance(facts, Denied):
            return [_unknown("stream", name, facts)]
        findings: list[Finding] = []
        try:
            pauses = await Pauses(self._broker, name, partition=0).list()
        except AccessDenied:
            pauses = []
            findings.append(_unknown("paused", name, Denied("hgetall")))
        try:
            findings += judge_losses(
                name, await Marking(self._broker, self._broker.keys(name)).losses()
            )
        except AccessDenied:
            findings.append(
                _unknown("lost", name, Denied("hgetall, xinfo|stream and xinfo|groups"))
            )
        findings += await self._runnable(name)
        findings += await self._running(
            name, sorted({row.group for row in facts.groups})
        )
        return [
            *findings,
            *judge_stream(facts, pauses, self._broker.clock.now(), self._bounds),
        ]

    async def _runnable(self, name: str) -> list[Finding]:
        """Events that wait although nothing holds them."""
        try:
            reasons = await Why(
                self._broker, name, patience=self._bounds.runnable
            ).runnable()
        except AccessDenied:
            return [
                _unknown(
                    "runnable-but-waiting",
                    name,
                    Denied("get, zrank, zrangebylex and xpending"),
                )
            ]
        except (NotFound, WrongKeyType):
            return []  # Gone meanwhile, or told as ``key-type``.
        return [
            Finding(
                "runnable-but-waiting",
                "warning",
                f"{name}/{reason.group}",
                f"{reason.level}|{reason.entry_id} waits: {reason.sentence}",
                f"streams why {name} '{reason.level}|{reason.entry_id}'; restart the workers, one by one",
            )
            for reason in reasons
        ]

    async def _running(self, name: str, groups: list[str]) -> list[Finding]:
        """Handlers that run for long, and workers that are not declared alike."""
        now, keys = self._broker.clock.now(), self._broker.keys(name)
        findings: list[Finding] = []
        try:
            for group in groups:
                workers = await FigureStore(self._broker, keys, group).workers()
                findings += judge_runs(name, group, workers, now, self._bounds)
                findings += judge_agreement(name, group, workers, now, self._bounds)
        except AccessDenied:
            findings.append(_unknown("long-running", name, Denied("hgetall")))
        except WrongKeyType:
            pass  # Told as ``key-type``.
        return findings


def _unknown(code: str, where: str, denied: Denied) -> Finding:
    what = "not looked at: the server does not let this user ask"
    return Finding(
        code,
        "unknown",
        where,
        what,
        f"give the user the permission {denied.command} to know",
    )
