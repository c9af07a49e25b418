"""The doctor examines the server and its streams, and reports findings with figures and remedies.

An examination is read only and safe on a busy server: its cost does not grow with the number of
entries.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streams.admin.pauses import Pauses
from streams.admin.status import Status
from streams.admin.why import Why
from streams.broker import Broker
from streams.broker.admin.access import AccessStore
from streams.broker.admin.diagnose import Denied, DiagnosisStore
from streams.broker.admin.figures import FigureStore
from streams.broker.admin.watermarks import WatermarkStore
from streams.broker.server.connection import EMBEDDED
from streams.broker.server.shards import Away, away_index, each
from streams.common.guests import Guests
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
from streams.doctor.guests import ask_guests, examiners
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
        bounds: from which on a figure is a finding.
        role: of the broker's user: ``producer``, ``worker`` or ``operator``.
        guests: applications that are asked as well, by an examination of all streams.

    Attributes:
        checks: how many checks the last examination made.
    """

    def __init__(
        self,
        broker: Broker,
        bounds: Bounds | None = None,
        role: str = "worker",
        *,
        guests: Guests | None = None,
    ) -> None:
        self._guests = guests
        self._broker = broker
        self._bounds = bounds or Bounds()
        self._role = role
        self._diagnosing = DiagnosisStore(broker)
        self.checks = 0

    async def about(self) -> dict[str, str]:
        """The server: ``address`` (without password), ``server``, ``version`` and ``topology``.

        One command, two where the first one is refused, and one more for a cluster. Server and
        version are '' where the server does not tell them.
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
        """All findings, the worst first. A check that the user may not make is ``unknown``.

        Commands for the servers: 6 for each one that has keys, 6 more where a restart depends on
        its default user's permissions, and 3 and one per permission of the role. Commands per
        stream: 6, 5 per level, 4 per level and group, 7 per group, and one per watermark; for
        events that wait for nothing 2, 1 per level, 2 per level and group and 1 per group, and more
        only if events wait for long; for the workers' notes 1 per group.

        Args:
            stream: only this one besides the server; '' for all.

        Raises:
            NotFound: there is no such stream.
        """
        self.checks = len(SERVER_CODES)
        streams, findings = await self._streams(stream)
        for name, link in (await self._broker.primaries()).items():
            findings += await self._primary(name, link)

        members = [f"{name}|{levels[0]}" for name, levels in streams.items()]
        findings += await self._access(members[0] if members else "")

        self.checks += len(STREAM_CODES) * len(streams)
        found, away = await each(
            self._broker, streams, lambda name: self._stream(name, streams[name])
        )
        for of_stream in found:
            findings += of_stream

        findings += [servers.away_streams(shard) for shard in away]
        if self._guests is not None and not stream:
            findings += await ask_guests(self._guests, self._broker)
            self.checks += len(examiners(self._guests))
        return sorted(findings, key=_badness)

    async def _streams(self, stream: str) -> tuple[dict[str, list[int]], list[Finding]]:
        """The streams to examine, and the findings if they cannot be read."""
        status = Status(self._broker)
        try:
            if stream:
                return await status.streams_of(stream), []

            return await status.streams(), []
        except AccessDenied:
            return {}, [_unknown("streams", servers.WHERE, Denied("smembers"))]
        except BrokerUnavailable as error:
            away = away_index(error)
            if stream:
                away = Away(away.shard, (stream,))

            return {}, [servers.away_streams(away)]

    async def _primary(self, name: str, link: Link) -> list[Finding]:
        try:
            found = await self._server(DiagnosisStore(self._broker, link))
        except BrokerUnavailable as error:
            if not name:
                raise

            return [servers.away(name, str(error))]

        if not name:
            return found

        return [replace(one, where=f"{one.where} {name}") for one in found]

    async def _server(self, diagnosing: DiagnosisStore) -> list[Finding]:
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
            # Only this user can open the server's socket.
            return []

        try:
            access = await AccessStore(self._broker).access(self._role, member)
        except BrokerUnavailable as error:
            if not error.server:
                raise

            what = f"not looked at: shard {error.server}, which would be asked, is away"
            todo = "look again when it is back"
            return [Finding("permissions", "unknown", servers.WHERE, what, todo)]

        broker = self._broker
        return [
            *servers.judge_access(access, broker.user, self._role, broker.namespace),
            *servers.judge_transport(broker.address),
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
            marking = WatermarkStore(self._broker, self._broker.keys(name))
            findings += judge_losses(name, await marking.losses())
        except AccessDenied:
            denied = Denied("hgetall, xinfo|stream and xinfo|groups")
            findings.append(_unknown("lost", name, denied))

        findings += await self._runnable(name)
        groups = sorted({row.group for row in facts.groups})
        findings += await self._running(name, groups)
        now = self._broker.clock.now()
        findings += judge_stream(facts, pauses, now, self._bounds)

        return findings

    async def _runnable(self, name: str) -> list[Finding]:
        """Events that wait although they could start."""
        code = "runnable-but-waiting"
        why = Why(self._broker, name, patience=self._bounds.runnable)

        try:
            reasons = await why.runnable()
        except AccessDenied:
            denied = Denied("get, zrank, zrangebylex and xpending")
            return [_unknown(code, name, denied)]
        except (NotFound, WrongKeyType):
            return []  # The stream is gone meanwhile, or a finding ``key-type`` names the key.

        return [
            Finding(
                "runnable-but-waiting",
                "warning",
                f"{name}/{reason.group}",
                f"{reason.level}|{reason.entry_id} waits: {reason.sentence}",
                f"streams why {name} '{reason.level}|{reason.entry_id}'; restart the"
                " workers, one by one",
            )
            for reason in reasons
        ]

    async def _running(self, name: str, groups: list[str]) -> list[Finding]:
        """Handlers that run for long, and workers with different declarations."""
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
            pass  # A finding ``key-type`` names the key.

        return findings


def _unknown(code: str, where: str, denied: Denied) -> Finding:
    what = "not looked at: the server does not let this user ask"
    todo = f"give the user the permission {denied.command} to know"
    return Finding(code, "unknown", where, what, todo)


def _badness(finding: Finding) -> tuple[int, str, str]:
    return ORDER.index(finding.severity), finding.where, finding.code
