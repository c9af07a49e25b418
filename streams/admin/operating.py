"""Operators' side of an open pipeline: the verbs on its streams, and where entries stand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Unpack

from streams.admin.cancellations import Cancellations, Impatience
from streams.admin.dead_letters import DeadLetters
from streams.admin.groups import Groups
from streams.admin.limits import Limits
from streams.admin.ordered_keys import OrderedKeys
from streams.admin.pauses import Pauses
from streams.admin.records import Records
from streams.admin.status import EntryState, Status
from streams.admin.tracking import Tracking
from streams.admin.why import Reasons, SeveralEvents, Wanted, Why
from streams.broker import Broker
from streams.quantities import Seconds


class Operating(ABC):
    """Verbs on the streams of a broker.

    A stream's name means all of its partitions, ``partition`` one of them.
    """

    @property
    @abstractmethod
    def broker(self) -> Broker:
        """The open broker."""

    def dead_letters(
        self, stream: str, group: str, *, by: str = "", partition: int | None = None
    ) -> DeadLetters:
        """The dead letters of a group; ``by`` names who acts, for the audit record."""
        return DeadLetters(
            self.broker,
            stream,
            group,
            by=by,
            partition=partition,
        )

    def pauses(
        self, stream: str, *, by: str = "", partition: int | None = None
    ) -> Pauses:
        """The pauses of a stream: what is held back.

        ``by`` is the name of the operator, for the audit record.
        """
        return Pauses(
            self.broker,
            stream,
            by=by,
            partition=partition,
        )

    def limits(
        self, stream: str, group: str, *, by: str = "", partition: int | None = None
    ) -> Limits:
        """The limits of a group, to look at and to change.

        ``by`` is the name of the operator, for the audit record.
        """
        return Limits(
            self.broker,
            stream,
            group,
            by=by,
            partition=partition,
        )

    def ordered_keys(
        self, stream: str, group: str, *, by: str = "", partition: int | None = None
    ) -> OrderedKeys:
        """The keys whose order a group keeps, to look at, and to release or skip.

        ``by`` is the name of the operator, for the audit record.
        """
        return OrderedKeys(
            self.broker,
            stream,
            group,
            by=by,
            partition=partition,
        )

    def groups(
        self, stream: str, *, by: str = "", partition: int | None = None
    ) -> Groups:
        """The groups of a stream, to look at and to give up.

        ``by`` is the name of the operator, for the audit record.
        """
        return Groups(
            self.broker,
            stream,
            by=by,
            partition=partition,
        )

    async def cancel(
        self,
        stream: str,
        id: str,
        group: str = "",
        *,
        by: str = "",
        partition: int | None = None,
    ) -> EntryState:
        """Cancel an event that is scheduled or waits for a retry; see ``Cancellations.cancel``."""
        return await self.cancellations(stream, by=by, partition=partition).cancel(
            id, group
        )

    async def run_now(
        self,
        stream: str,
        id: str,
        group: str = "",
        *,
        by: str = "",
        partition: int | None = None,
    ) -> EntryState:
        """Let an event run before its time, if it is scheduled or waits for a retry.

        See ``Impatience.run_now``.
        """
        return await Impatience(
            self.broker, stream, by=by, partition=partition
        ).run_now(id, group)

    async def why(
        self,
        stream: str,
        event: str | None = None,
        *,
        group: str = "",
        partition: int | None = None,
        **several: Unpack[SeveralEvents],
    ) -> Reasons:
        """Why an event waits, or those of a key, a tenant or a level.

        The answer is for each group or for one; see ``Why.ask``.

        ``event`` is an event id, an entry id, or ``LEVEL|ENTRY-ID``; ``key``,
        ``tenant`` or ``level`` names several events. Reads only.

        Raises:
            NotFound: there is no such stream, partition or group.
            ConfigurationError: not exactly one of event, key, tenant and level is
                given.
        """
        wanted = Wanted(event, **several)
        return await Why(self.broker, stream, partition=partition).ask(wanted, group)

    def cancellations(
        self, stream: str, *, by: str = "", partition: int | None = None
    ) -> Cancellations:
        """For cancelling many events of a stream; ``by`` names who acts, for the audit record."""
        return Cancellations(
            self.broker,
            stream,
            by=by,
            partition=partition,
        )

    def tracking(
        self, stream: str, ranks: Mapping[str, int], retention: Seconds
    ) -> Tracking:
        """Follow single events of a stream through states of one's own."""
        return Tracking(
            self.broker,
            stream,
            ranks,
            retention,
        )

    def records(self, stream: str, kind: str) -> Records:
        """Small JSON objects by name, kept beside a stream."""
        return Records(self.broker, stream, kind)

    def status(self) -> Status:
        """Where entries stand."""
        return Status(self.broker)
