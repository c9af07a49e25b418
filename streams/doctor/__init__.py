"""The doctor: looks at the server and its streams, and says what is wrong, with figures and what to do.

Read only, and safe on a busy server: the cost does not grow with what is stored.
"""

from __future__ import annotations

from streams.broker import Broker
from streams.broker.diagnose import Denied, Diagnosing
from streams.doctor import servers
from streams.doctor.finding import ORDER, Bounds, Finding, Severity
from streams.doctor.stream import judge_stream
from streams.errors import AccessDenied, NotFound
from streams.pauses import Pauses
from streams.status import Status

__all__ = ["ORDER", "Bounds", "Doctor", "Finding", "Severity"]


class Doctor:
    """Examines a server.

    Args:
        broker: an open broker.
        bounds: from where on something is found.
    """

    def __init__(self, broker: Broker, bounds: Bounds | None = None) -> None:
        self._broker = broker
        self._bounds = bounds or Bounds()
        self._diagnosing = Diagnosing(broker)

    async def examine(self, stream: str = "") -> list[Finding]:
        """Everything that can be found, the worst first; what may not be looked at is a finding ``unknown``.

        5 commands for the server; per stream 1, 4 per level, 2 more per level and group, 6 per group.

        Args:
            stream: only this one besides the server; '': all.

        Raises:
            NotFound: there is no such stream.
        """
        findings = [*await self._server(), *await self._streams(stream)]
        return sorted(findings, key=lambda found: (ORDER.index(found.severity), found.where, found.code))

    async def _server(self) -> list[Finding]:
        findings = list(servers.judge_skew(await self._diagnosing.skew(), self._bounds))
        info = await self._diagnosing.info()
        if isinstance(info, Denied):
            return [*findings, _unknown("server", servers.WHERE, info)]
        config = await self._diagnosing.config("save", "appendfsync")
        if isinstance(config, Denied):
            findings.append(_unknown("persistence", servers.WHERE, config))
        return [
            *findings,
            *servers.judge_version(info),
            *servers.judge_persistence(info, config),
            *servers.judge_memory(info, self._bounds),
            *servers.judge_replication(info),
        ]

    async def _streams(self, only: str) -> list[Finding]:
        try:
            streams = await Status(self._broker).streams()
        except AccessDenied:
            return [_unknown("streams", servers.WHERE, Denied("smembers"))]
        if only and only not in streams:
            raise NotFound(f"there is no stream {only!r} on {self._broker.address}; there are: {', '.join(streams)}")
        findings: list[Finding] = []
        for name, levels in streams.items():
            if only in ("", name):
                findings += await self._stream(name, levels)
        return findings

    async def _stream(self, name: str, levels: list[int]) -> list[Finding]:
        facts = await self._diagnosing.stream(name, levels)
        if isinstance(facts, Denied):
            return [_unknown("stream", name, facts)]
        findings: list[Finding] = []
        try:
            pauses = await Pauses(self._broker, name).list()
        except AccessDenied:
            pauses = []
            findings.append(_unknown("paused", name, Denied("hgetall")))
        return [*findings, *judge_stream(facts, pauses, self._broker.clock.now(), self._bounds)]


def _unknown(code: str, where: str, denied: Denied) -> Finding:
    what = "not looked at: the server does not let this user ask"
    return Finding(code, "unknown", where, what, f"give the user the permission {denied.command} to know")
