"""Ask a server why a connection by TLS fails, since the error of the failure depends on timing.

A server that wants a certificate says so after its side of the handshake. A client that has
sent data by then sees a reset connection instead. A client that sends nothing reads the alert.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from streams.errors import WrongServer

_PATIENCE = 1.0
_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python has no name for."""
_WANTS_ONE = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
_OF_CERTIFICATES = ("CERTIFICATE", "UNKNOWN_CA", "DECRYPT_ERROR", "ACCESS_DENIED")


async def answers(host: str, port: int) -> bool:
    """Whether a server speaks TLS."""
    try:
        async with asyncio.timeout(_PATIENCE), _opened(host, port, _trusting()):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # A refusal by TLS.
    except (OSError, TimeoutError):
        return False


async def refusal(
    host: str, port: int, options: Mapping[str, Any]
) -> WrongServer | None:
    """Why a server refuses the certificate of the URL, or its absence; None if it does not.

    Args:
        host: of the server.
        port: of the server.
        options: of the URL.
    """
    where, has_one = f"{host}:{port}", bool(options.get("ssl_certfile"))
    try:
        alert = await _alert(host, port, options)
    except (OSError, TimeoutError):
        return None

    if not has_one and any(word in alert for word in _WANTS_ONE):
        return WrongServer(
            f"{where} asks for a certificate: add ?ssl_certfile=FILE&ssl_keyfile=FILE to the URL"
        )

    if has_one and any(word in alert for word in _OF_CERTIFICATES):
        said = alert.rpartition("ALERT_")[2].replace("_", " ").lower()
        return WrongServer(
            f"{where} refuses the certificate of ssl_certfile ({said}): use one that is signed by"
            " the authority that the server trusts, and that has not expired"
        )

    return None


async def expiry(host: str, port: int, options: Mapping[str, Any]) -> float | None:
    """The Unix time at which a certificate expired; None if it is valid or unreadable."""
    try:
        context = ssl.create_default_context(
            cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path")
        )
        context.check_hostname = False
        context.verify_flags |= _NO_CHECK_TIME

        async with (
            asyncio.timeout(_PATIENCE),
            _opened(host, port, context) as (_, writer),
        ):
            found = writer.get_extra_info("peercert") or {}
            until = ssl.cert_time_to_seconds(found["notAfter"])
    except (OSError, TimeoutError, LookupError, ValueError):
        return None

    return until if until < time.time() else None


async def _alert(host: str, port: int, options: Mapping[str, Any]) -> str:
    """The alert that a server ends the connection with, in OpenSSL's words; '' for none."""
    context = _trusting()
    if options.get("ssl_certfile"):
        password = options.get("ssl_password")
        context.load_cert_chain(
            options["ssl_certfile"], options.get("ssl_keyfile"), password
        )

    try:
        async with (
            asyncio.timeout(_PATIENCE),
            _opened(host, port, context) as (reader, _),
        ):
            await reader.read(1)
    except ssl.SSLError as error:
        return error.reason or ""

    return ""


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    # Safe without verification: no data are sent.
    context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.asynccontextmanager
async def _opened(
    host: str, port: int, context: ssl.SSLContext
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        yield reader, writer
    finally:
        await end(writer)


async def end(writer: asyncio.StreamWriter) -> None:
    """Close a connection at once."""
    writer.transport.abort()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            await writer.wait_closed()
