"""Exit codes, by which a shell learns how a command ended, and those of errors."""

from __future__ import annotations

from enum import IntEnum

from streams.errors import (
    AccessDenied,
    AddressTaken,
    BrokerUnavailable,
    ConfigurationError,
    GroupMissing,
    NoServer,
    NotFound,
    OutOfMemory,
    PartlyPublished,
    PublishUnknown,
    StreamFull,
    StreamsError,
    WrongServer,
)


class Exit(IntEnum):
    """The code that a command ends with. The numbers are part of the interface."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    FULL = 5
    UNKNOWN = 6
    TAKEN = 7
    FORCED = 70
    CRASHING = 71
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "done in part, refused, not healthy, or the books do not balance",
    Exit.USAGE: "wrong use: an option, a setting, a URL, a target; for doctor: something critical",
    Exit.NOT_FOUND: "no such stream, group, event or dead letter",
    Exit.UNREACHABLE: "the server, or a shard, cannot be reached (the rest is "
    "shown), or it denies access",
    Exit.FULL: "the stream or the server is full; nothing was dropped",
    Exit.UNKNOWN: "an answer was lost: events may be stored or not",
    Exit.TAKEN: "the port or address to serve on is in use, or may not be used",
    Exit.FORCED: "a worker ended without a handler that did not let go",
    Exit.CRASHING: "a process of a worker ended again and again before it began",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
}

_BY_ERROR = {
    NoServer: Exit.UNREACHABLE,
    AddressTaken: Exit.TAKEN,
    ConfigurationError: Exit.USAGE,
    WrongServer: Exit.USAGE,
    NotFound: Exit.NOT_FOUND,
    GroupMissing: Exit.NOT_FOUND,
    BrokerUnavailable: Exit.UNREACHABLE,
    AccessDenied: Exit.UNREACHABLE,
    StreamFull: Exit.FULL,
    OutOfMemory: Exit.FULL,
    PartlyPublished: Exit.UNREACHABLE,
    PublishUnknown: Exit.UNKNOWN,
}


def exit_code(error: StreamsError) -> Exit:
    """The exit code of an error: that of the first class above that fits."""
    for kind, code in _BY_ERROR.items():
        if isinstance(error, kind):
            return code
    return Exit.FAILED
