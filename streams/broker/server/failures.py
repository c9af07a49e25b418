"""Translate errors of the client library and refusals of servers into this package's errors."""

from __future__ import annotations

import re

from streams.broker.server.client import errors as redis_errors
from streams.broker.server.scripts import by_sha
from streams.errors import (
    AccessDenied,
    BrokerError,
    BrokerUnavailable,
    CommandRefused,
    GroupMissing,
    OutOfMemory,
    WrongCredentials,
    WrongKeyType,
    WrongServer,
)

BREAKS_OFF = "ERR Protocol error"
"""The beginning of the reply after which the server closes the connection."""

# Replies that say "not now": the command did nothing, and works once the server is back to normal.
_PASSING = (
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MOVED",
    "ASK",
    "BUSY ",
    "UNBLOCKED",
    "MISCONF",
    "NOREPLICAS",
    "max number of clients",
)
_OF_REPLICA = ("READONLY", "You can't write against a read only replica")
_WANTS_PASSWORD = ("NOAUTH", "Authentication required")
_HAS_NO_PASSWORD = ("AUTH <password> called without any password", "no password is set")
_NO_ROOM = "max number of clients"
_NOT_IN_SCRIPTS = "command is not allowed from script"
_DENIED = (
    "NOPERM",
    "has no permissions",
    "ACL failure",
    "The user executing the script can't",
)
_IN_SCRIPT = re.compile(
    r"(?:script: |call to f_)(?P<sha>[0-9a-f]{40})\b.*?@user_script:(?P<line>\d+)"
)
_CALL = re.compile(r"redis\.p?call\('(?P<command>\w+)'")


def refusal(error: redis_errors.RedisError) -> BrokerError:
    """Translate an error reply: the server was reached and refused the command."""
    text = str(error)
    if found := _of_credentials(error, text):
        return WrongCredentials(found)

    if isinstance(error, redis_errors.NoPermissionError) or _has(text, _DENIED):
        return AccessDenied(
            f"the server denies access: {text.rstrip('.')}{_denied_in_script(text)}. "
            "Give the URL's user this permission; docs/operations.md lists them all"
        )

    if (
        isinstance(error, redis_errors.OutOfMemoryError)
        or "OOM " in text
        or "used memory > 'maxmemory'" in text
    ):
        return OutOfMemory(
            "the server is at its maxmemory and refuses new data; nothing was written"
        )

    if "NOGROUP" in text or "no such key" in text:
        return GroupMissing(text)
    if "WRONGTYPE" in text:
        return WrongKeyType(f"a key of this stream holds another kind of value: {text}")

    if isinstance(error, redis_errors.ReadOnlyError) or _has(text, _OF_REPLICA):
        return BrokerUnavailable(
            "the server is a replica, which takes no writes: name its primary in the URL,"
            f" unless a failover is under way ({text})"
        )

    if isinstance(error, redis_errors.ClusterError) or _has(text, _PASSING):
        full = (
            " (its maxclients; look at CLIENT LIST, or raise it)"
            if _NO_ROOM in text
            else ""
        )

        return BrokerUnavailable(f"the server cannot serve this now: {text}{full}")

    if text.startswith(BREAKS_OFF):
        return CommandRefused(
            f"the request is larger than the server takes ({text}): it was not done. Publish"
            " smaller events, or fewer at once, or raise proto-max-bulk-len"
        )

    if _NOT_IN_SCRIPTS in text:
        return WrongServer(
            f"the server does not do in a script what Redis does since 6.2 ({text}): it is too"
            " old, use Redis 6.2 or later, or Valkey"
        )

    return CommandRefused(text)


def loss(error: BaseException, *, sent: bool) -> BrokerError:
    """Translate a failure of the connection. ``sent``: the command may have reached the server."""
    if isinstance(error.__cause__, redis_errors.RedisError):
        # On unix sockets the client library wraps the server's own error.
        error = error.__cause__
    if isinstance(error, redis_errors.AuthenticationError):
        return refusal(error)
    if isinstance(error, redis_errors.AuthorizationError):
        return AccessDenied(f"the server denies access: {error}")

    if isinstance(error, ConnectionError) and (
        _NO_ROOM in str(error) or str(error).startswith(BREAKS_OFF)
    ):
        # The server said so before it closed the connection.
        return refusal(redis_errors.ResponseError(str(error)))

    if isinstance(error, redis_errors.BusyLoadingError):
        return BrokerUnavailable("the server is loading its data", sent=False)
    if isinstance(error, redis_errors.ResponseError):
        return refusal(error)

    text = str(error) or type(error).__name__
    return BrokerUnavailable(f"the connection to the server failed: {text}", sent=sent)


def _of_credentials(error: redis_errors.RedisError, text: str) -> str:
    """The mistake about user and password, and the remedy; '' if the error is another one."""
    if _has(text, _WANTS_PASSWORD):
        return (
            "the server wants a password: write redis://:PASSWORD@HOST:PORT,"
            " or redis://USER:PASSWORD@HOST:PORT"
        )

    if _has(text, _HAS_NO_PASSWORD):
        return (
            "the server has no password for its default user: write redis://HOST:PORT,"
            " without one"
        )

    if isinstance(error, redis_errors.AuthenticationError) or "WRONGPASS" in text:
        return (
            "the server refuses the user or the password: look at both in the URL (STREAMS_URL,"
            " REDIS_URL or the file of STREAMS_URL_FILE), where / ? # @ : % are written"
            " %2F %3F %23 %40 %3A %25, and at the users of the server (ACL LIST)"
        )

    return ""


def _has(text: str, marks: tuple[str, ...]) -> bool:
    return any(mark in text for mark in marks)


def _denied_in_script(text: str) -> str:
    """The command that was denied; Redis 7.0 names only the script and the line."""
    place = _IN_SCRIPT.search(text)
    script = by_sha.get(place["sha"]) if place else None
    if not place or not script:
        return ""

    line = script.text.splitlines()[int(place["line"]) - 1]
    call = _CALL.search(line)
    return f" ({call['command'].lower()})" if call else ""
