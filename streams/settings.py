"""Settings from the environment, ``.env.local`` and ``.env``, the first one winning.

Every variable begins with ``STREAMS_``. ``REDIS_URL`` and ``USE_REDIS`` are read too,
because other services of a deployment use them. A malformed value is an error that
names its variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from streams.address import Address
from streams.broker.server.url_file import URLFile
from streams.common.arguments import checked_kind, checked_number, checked_seconds
from streams.common.env_file import read_env_file
from streams.errors import ConfigurationError
from streams.events.names import DEFAULT_NAMESPACE, checked_name
from streams.policy.levels import Levels, checked_levels
from streams.quantities import read_span

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}
_LOCAL_REDIS = "redis://localhost:6379/0"
_LONGEST_SHOWN = 40
_URL_FILE = "STREAMS_URL_FILE"
_UNSET = ("", "")

Wait = Literal["never", "server", "always"]
"""The things that a program waits for at its start.

``never``: nothing. ``server``: a server that is unavailable. ``always``: also for
credentials that the server never accepted.
"""
WAITS: tuple[Wait, ...] = ("never", "server", "always")

HIDDEN = "***"
"""Replaces a text that may be a secret."""


class Unsaid(int):
    """A default number, told apart from the same number set on purpose."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured, with its default.

    Attributes:
        url: the server. None: an embedded server that keeps nothing (``STREAMS_URL``,
            else ``REDIS_URL``).
        url_file: the path of a file with the URL. Each new connection reads its user and
            password from it (``STREAMS_URL_FILE``).
        namespace: the first part of every key (``STREAMS_NAMESPACE``).
        levels: the priority levels of the streams (``STREAMS_LEVELS``, e.g.
            ``0,1,5,10``).
        serve_levels: the levels whose events this worker handles. None: all of them
            (``STREAMS_SERVE_LEVELS``).
        concurrency: the most handlers at once per group. The default is 32 for a group
            with a ``def`` handler (``STREAMS_CONCURRENCY``).
        lease: seconds of silence after which an entry is stalled (``STREAMS_LEASE``).
        grace_period: seconds for which a shutdown lets handlers run
            (``STREAMS_GRACE_PERIOD``).
        max_event_bytes: the largest body (``STREAMS_MAX_EVENT_BYTES``).
        max_len: the most unfinished events per stream; 0: no limit
            (``STREAMS_MAX_LEN``).
        dedup_window: seconds for which a dedup id is kept (``STREAMS_DEDUP_WINDOW``).
        timeout: seconds for one call to the server, including the wait for a connection
            (``STREAMS_TIMEOUT``).
        wait: how a program waits for the server at its start: ``server``, ``always`` or
            ``never``; see ``Wait`` (``STREAMS_WAIT``).
        log: ``text`` or ``json`` (``STREAMS_LOG``).
        log_level: ``debug``, ``info``, ``warning`` or ``error`` (``STREAMS_LOG_LEVEL``).
        log_tracebacks: whether failed attempts are logged with a traceback. None: on a
            terminal, and at level ``debug`` (``STREAMS_LOG_TRACEBACKS``: ``1``, ``0`` or
            ``auto``).
        health: the address of a worker's health server, e.g. ``8080``, ``:8080`` or
            ``unix:/run/streams.sock``. Empty: there is none (``STREAMS_HEALTH``).
        telemetry: the target of a worker's spans and metrics: ``otlp``, ``prometheus``,
            or both (``STREAMS_TELEMETRY``).
    """

    url: str | None = field(default=None, repr=False)
    url_file: str = ""
    namespace: str = DEFAULT_NAMESPACE
    levels: Levels = Levels()
    serve_levels: Levels | None = None
    concurrency: int = Unsaid(100)
    lease: float = 30.0
    grace_period: float = 10.0
    max_event_bytes: int = 1024 * 1024
    max_len: int = 0
    dedup_window: float = 3600.0
    timeout: float = 5.0
    wait: Wait = "server"
    log: str = "text"
    log_level: str = "info"
    log_tracebacks: bool | None = None
    health: str = ""
    telemetry: str = ""

    def __post_init__(self) -> None:
        for name, reader in _READERS.items():
            object.__setattr__(self, name, reader.check(name, getattr(self, name)))

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, directory: Path | None = None
    ) -> Self:
        """Read the settings.

        Args:
            environ: the environment; None: the environment of the process.
            directory: the directory of ``.env`` and ``.env.local``; None: the working
                directory.

        Raises:
            ConfigurationError: a value is malformed; the message names the variable and
                its origin.
        """
        readings = read_settings(
            os.environ if environ is None else environ, directory or Path.cwd()
        )

        for reading in readings:
            if reading.error:
                raise ConfigurationError(reading.error)

        return cls(**{reading.name: reading.value for reading in readings})


class Reading(NamedTuple):
    """One setting with its value and its origin.

    Attributes:
        name: the name of the setting in ``Settings``.
        unit: the unit of its value, or the kind of value.
        default: its default value.
        value: its value; the default if the text of the variable is malformed.
        variable: the environment variable that sets it, if any.
        origin: ``default``, ``the environment``, ``.env.local`` or ``.env``.
        text: the text of the variable, with secrets hidden; '' if there is none.
        error: a sentence that names the variable and its problem; '' if it has none.
    """

    name: str
    unit: str
    default: Any
    value: Any
    variable: str = ""
    origin: str = "default"
    text: str = ""
    error: str = ""


Found = dict[str, tuple[str, str]]
"""The value and the origin of each variable."""


def read_settings(environ: Mapping[str, str], directory: Path) -> list[Reading]:
    """Read every setting, in the order of ``Settings``. A malformed value has an error.

    Raises:
        ConfigurationError: a line of an env file is malformed.
    """
    found = gather(environ, directory)
    readings = [_read_url(found)]
    defaults = {setting.name: setting.default for setting in fields(Settings)}
    for name, reader in _READERS.items():
        reading = Reading(name, reader.unit, defaults[name], defaults[name])
        variable = f"STREAMS_{name.upper()}"
        if variable in found:
            reading = _read(reading, variable, found[variable], reader.read)

        readings.append(reading)

    return readings


def _read(
    reading: Reading, variable: str, found: tuple[str, str], read: Callable[[str], Any]
) -> Reading:
    text, origin = found
    shown = _shown(text.strip())
    reading = reading._replace(variable=variable, origin=origin, text=shown)
    try:
        return reading._replace(value=read(text.strip()))
    except ValueError as error:
        what = variable if shown == HIDDEN else f"{variable}={shown!r}"
        return reading._replace(error=f"{what} (from {origin}): {error}")


def gather(environ: Mapping[str, str], directory: Path) -> Found:
    """Every variable of this package, with its value and origin.

    Raises:
        ConfigurationError: a line of an env file is malformed.
    """
    sources: list[tuple[str, Mapping[str, str]]] = []
    for file in (".env", ".env.local"):
        path = directory / file
        if path.is_file():
            sources.append((file, read_env_file(path)))

    sources.append(("the environment", environ))

    found: Found = {}
    for origin, variables in sources:
        for name, value in variables.items():
            if name.startswith("STREAMS_") or name in ("REDIS_URL", "USE_REDIS"):
                found[name] = (value, origin)

    return found


def said_slots(concurrency: int, otherwise: int) -> int:
    """The ``concurrency`` if it was set on purpose, else ``otherwise``."""
    return otherwise if isinstance(concurrency, Unsaid) else concurrency


def in_production(found: Found) -> bool:
    """Whether ``STREAMS_ENV`` is ``production``."""
    return found.get("STREAMS_ENV", _UNSET)[0].strip().lower() == "production"


def _read_url(found: Found) -> Reading:
    """Read the URL from its file, STREAMS_URL or REDIS_URL.

    STREAMS_URL and its file come first. Otherwise USE_REDIS decides between REDIS_URL
    and the embedded server.
    """
    nothing = Reading("url", "URL", None, None)
    own = _read_url_of(found, "STREAMS_URL", nothing)
    shared = _read_url_of(found, "REDIS_URL", nothing)
    text, origin = found.get(_URL_FILE, _UNSET)
    file = text.strip()
    if file and own.value:
        both = f"STREAMS_URL and {_URL_FILE} are both set: set one of them"
        return own._replace(error=both)

    if file:
        named = nothing._replace(variable=_URL_FILE, origin=origin)
        return _read_url_file(file, named)

    if own.value:
        return own
    if "USE_REDIS" not in found:
        return shared

    wanted = _read(nothing, "USE_REDIS", found["USE_REDIS"], _boolean)
    if wanted.error or not wanted.value:
        return wanted._replace(value=None)
    return shared if shared.value else wanted._replace(value=_LOCAL_REDIS)


def _read_url_of(found: Found, variable: str, nothing: Reading) -> Reading:
    text, origin = found.get(variable, _UNSET)
    url = text.strip()
    if not url:
        return nothing
    return nothing._replace(
        value=url, variable=variable, origin=origin, text=shown_url(url)
    )


def _read_url_file(path: str, reading: Reading) -> Reading:
    try:
        url = URLFile(path).read()
    except ConfigurationError:
        return reading  # The reading of the setting ``url_file`` has the error.

    return reading._replace(value=url, text=shown_url(url))


def _url_file(text: str) -> str:
    if text:
        try:
            URLFile(text).read()
        except ConfigurationError as error:
            raise ValueError(
                f"use the path of a file that holds a URL: {error}"
            ) from None

    return text


def parse_tracebacks(text: str) -> bool | None:
    """Parse the variable that switches tracebacks on or off. ``auto`` is None.

    Raises:
        ValueError: the text is not 1, 0, auto, or another word for one of them.
    """
    if text.lower() in ("auto", ""):
        return None

    try:
        return _boolean(text)
    except ValueError:
        raise ValueError("use 1, 0 or auto") from None


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False

    raise ValueError("use true or false")


def _is_text(name: str, value: Any) -> Any:
    checked_kind(name, value, str, "a text")
    return value


def _is_switch(name: str, value: Any) -> Any:
    checked_kind(name, value, (bool, type(None)), "True, False or None")
    return value


class _Reader(NamedTuple):
    """How a setting is read and checked.

    Attributes:
        unit: the unit or kind of its value.
        read: parses the text of a variable; raises ValueError.
        check: checks a program's argument by name and value, and returns the value to
            keep; raises ConfigurationError.
    """

    unit: str
    read: Callable[[str], Any]
    check: Callable[[str, Any], Any] = _is_text


def _seconds(low: float, high: float) -> _Reader:
    def read(text: str) -> float:
        try:
            value = read_span(text)
        except ValueError:
            value = float("nan")

        if not low <= value <= high:
            raise ValueError(
                f"use a number of seconds from {low:g} to {high:g}, "
                "or a span such as 30s or 5m"
            )

        return value

    def check(name: str, value: Any) -> float:
        return checked_seconds(name, value, low, high)

    return _Reader("seconds", read, check)


def _integer(low: int, high: int, what: str) -> _Reader:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"use a whole number of {what} from {low} to {high}")
        return int(text)

    def check(name: str, value: Any) -> Any:
        return checked_number(name, value, low, high)

    return _Reader(what, read, check)


def parse_levels(text: str) -> Levels:
    """Parse the levels in the text of a variable, e.g. ``0,1,5,10``.

    Raises:
        ValueError: the text has another form; the message shows the right one.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"-?\d{1,9}", part) for part in parts):
        raise ValueError("use different integers with commas between, e.g. 0,1,5,10")
    return Levels(map(int, parts))


def _check_levels(name: str, value: Any) -> Levels:
    return checked_levels(value, name)


def _serve_levels(text: str) -> Levels | None:
    return parse_levels(text) if text else None


def _check_serve_levels(name: str, value: Any) -> Levels | None:
    return value and checked_levels(value, name)


def _choice(*allowed: str) -> _Reader:
    words = ", ".join(allowed)

    def read(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"use one of {words}")
        return text.lower()

    def check(name: str, value: Any) -> Any:
        if value not in allowed:
            raise ConfigurationError(f"{name} is one of {words}, not {value!r}")
        return value

    return _Reader("word", read, check)


def _shown(text: str) -> str:
    """A value, hidden if it is long or looks like a URL, which may hold a password."""
    is_secret = len(text) > _LONGEST_SHOWN or "://" in text or "@" in text
    return HIDDEN if is_secret else text


def shown_url(url: str) -> str:
    """A URL that is safe to show: user, password and query are hidden."""
    scheme, mark, rest = url.partition("://")
    if not mark or not re.fullmatch(r"[a-z+]+", scheme):
        return HIDDEN

    before, question, query = rest.partition("?")
    if "@" in query:
        return f"{scheme}://{HIDDEN}"  # The end of the credentials is ambiguous.

    _, at, host = before.rpartition("@")
    user = HIDDEN if at else ""
    query = HIDDEN if question else ""
    return f"{scheme}://{user}{at}{host.partition('#')[0]}{question}{query}"


def _namespace(text: str) -> str:
    try:
        return checked_name(text)
    except ConfigurationError:
        raise ValueError(
            "use 1 to 100 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit"
        ) from None


def _health(text: str) -> str:
    if text:
        Address.parse(text)

    return text


def _telemetry(text: str) -> str:
    parts = [part.strip().lower() for part in text.split(",")]
    words = dict.fromkeys(filter(None, parts))
    if not words.keys() <= {"otlp", "prometheus"}:
        raise ValueError("use otlp, prometheus, or both with a comma between")
    return ",".join(words)


_READERS: dict[str, _Reader] = {
    "url_file": _Reader("path", _url_file),
    "namespace": _Reader("name", _namespace),
    "levels": _Reader("integers", parse_levels, _check_levels),
    "serve_levels": _Reader("integers", _serve_levels, _check_serve_levels),
    "concurrency": _integer(1, 100_000, "handlers"),
    "lease": _seconds(0.3, 86_400),
    "grace_period": _seconds(0, 86_400),
    "max_event_bytes": _integer(1, 512 * 1024 * 1024, "bytes"),
    "max_len": _integer(0, 10**15, "events"),
    "dedup_window": _seconds(0.001, 31_536_000),
    "timeout": _seconds(0.05, 3600),
    "wait": _choice(*WAITS),
    "log": _choice("text", "json"),
    "log_level": _choice("debug", "info", "warning", "error"),
    "log_tracebacks": _Reader("word", parse_tracebacks, _is_switch),
    "health": _Reader("address", _health),
    "telemetry": _Reader("words", _telemetry),
}
"""The reader of every setting but ``url``, in the order of ``Settings``."""
