"""Settings from the environment, from ``.env.local`` and from ``.env``, in this order of precedence.

Every value has a name that begins with ``STREAMS_``; ``REDIS_URL`` and ``USE_REDIS`` are understood too, as other
services of the same deployment use them. What is malformed is refused by name; nothing is guessed.
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

Wait = Literal["never", "server", "always"]
"""For what a program waits at its start: nothing; a server that is away; that, or credentials that it never took."""
WAITS: tuple[Wait, ...] = ("never", "server", "always")

HIDDEN = "***"
"""Stands for what may be a secret."""


class Unsaid(int):
    """A number that nobody has set, so that what is known better may take its place."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured, with its default.

    Attributes:
        url: the server; None: an embedded server that keeps nothing (``STREAMS_URL``, else ``REDIS_URL``).
        url_file: file that holds the URL, read anew for the user and password of each connection
            (``STREAMS_URL_FILE``).
        namespace: first part of every key (``STREAMS_NAMESPACE``).
        levels: priority levels of the streams (``STREAMS_LEVELS``, e.g. ``0,1,5,10``).
        serve_levels: those of the levels whose events a worker here takes; None: all (``STREAMS_SERVE_LEVELS``).
        concurrency: the most handlers at once per group; 32 for a group with a ``def`` handler, unless it is set
            (``STREAMS_CONCURRENCY``).
        lease: seconds of silence after which an entry counts as stalled (``STREAMS_LEASE``).
        grace_period: seconds that running handlers get to finish at shutdown (``STREAMS_GRACE_PERIOD``).
        max_event_bytes: the largest body (``STREAMS_MAX_EVENT_BYTES``).
        max_len: the most unfinished events per stream, 0: no limit (``STREAMS_MAX_LEN``).
        dedup_window: seconds for which a dedup id is remembered (``STREAMS_DEDUP_WINDOW``).
        timeout: seconds for one call to the server, waiting for its turn and connecting included (``STREAMS_TIMEOUT``).
        wait: for what a program that runs waits at its start: ``server``, if that is away; ``always``: also for
            credentials that it never took; ``never`` (``STREAMS_WAIT``).
        log: ``text`` or ``json`` (``STREAMS_LOG``).
        log_level: ``debug``, ``info``, ``warning`` or ``error`` (``STREAMS_LOG_LEVEL``).
        log_tracebacks: whether the line of a failed attempt has its traceback; None: on a terminal, and at level
            ``debug`` (``STREAMS_LOG_TRACEBACKS``: ``1``, ``0`` or ``auto``).
        health: where a worker serves its health, e.g. ``8080``, ``:8080`` or ``unix:/run/streams.sock``; empty: nowhere
            (``STREAMS_HEALTH``).
        telemetry: where a worker's spans and metrics go: ``otlp``, ``prometheus``, or both (``STREAMS_TELEMETRY``).
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
            environ: the environment; that of the process if None.
            directory: where ``.env`` and ``.env.local`` are looked for; the working directory if None.

        Raises:
            ConfigurationError: a value is malformed; the message names the variable and where it came from.
        """
        readings = read_settings(
            os.environ if environ is None else environ, directory or Path.cwd()
        )
        for reading in readings:
            if reading.error:
                raise ConfigurationError(reading.error)
        return cls(**{reading.name: reading.value for reading in readings})


class Reading(NamedTuple):
    """One setting as it was found.

    Attributes:
        name: of the setting, as in ``Settings``.
        unit: what its value is a number of, or the kind of value that it is.
        default: its value where nothing is said.
        value: its value; the default if ``error`` says that what was found is malformed.
        variable: the environment variable that was found, if any.
        origin: where the value comes from: ``default``, ``the environment``, ``.env.local`` or ``.env``.
        text: what the variable says, as far as it may be shown; empty if there is none.
        error: why it is refused, as a sentence that names the variable; empty if it is not.
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
"""Variable to value and origin."""


def read_settings(environ: Mapping[str, str], directory: Path) -> list[Reading]:
    """Every setting with its value and where that comes from, in the order of ``Settings``; refuses no value.

    Raises:
        ConfigurationError: a line of an env file is malformed.
    """
    found = gather(environ, directory)
    readings = []
    for setting in fields(Settings):
        variable = f"STREAMS_{setting.name.upper()}"
        if setting.name == "url":
            readings.append(_read_url(found))
            continue
        reader = _READERS[setting.name]
        reading = Reading(setting.name, reader.unit, setting.default, setting.default)
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
    """Every variable that may concern us, with where its value comes from.

    Raises:
        ConfigurationError: a line of an env file is malformed.
    """
    found: Found = {}
    for file in (".env", ".env.local"):
        path = directory / file
        if path.is_file():
            found |= {
                name: (value, file) for name, value in read_env_file(path).items()
            }
    found |= {name: (value, "the environment") for name, value in environ.items()}
    return {
        name: found[name]
        for name in found
        if name.startswith("STREAMS_") or name in ("REDIS_URL", "USE_REDIS")
    }


def said_slots(concurrency: int, otherwise: int) -> int:
    """The number that was set; ``otherwise`` where none was."""
    return otherwise if isinstance(concurrency, Unsaid) else concurrency


def in_production(found: Found) -> bool:
    """Whether ``STREAMS_ENV`` says so."""
    return found.get("STREAMS_ENV", ("", ""))[0].strip().lower() == "production"


def _read_url(found: Found) -> Reading:
    """STREAMS_URL wins; then USE_REDIS decides between REDIS_URL and the embedded server."""
    nothing = Reading("url", "URL", None, None)

    def named(variable: str) -> Reading:
        text, origin = found.get(variable, ("", ""))
        url = text.strip()
        return (
            nothing._replace(
                value=url, variable=variable, origin=origin, text=shown_url(url)
            )
            if url
            else nothing
        )

    own, shared = named("STREAMS_URL"), named("REDIS_URL")
    file = found.get(_URL_FILE, ("", ""))[0].strip()
    if file and own.value:
        return own._replace(
            error=f"STREAMS_URL and {_URL_FILE} are both set: set one of them"
        )
    if file:
        return nothing._replace(
            variable=_URL_FILE, origin=found[_URL_FILE][1], **_from_file(file)
        )
    if own.value:
        return own
    if "USE_REDIS" not in found:
        return shared
    wanted = _read(nothing, "USE_REDIS", found["USE_REDIS"], _boolean)
    if wanted.error or not wanted.value:
        return wanted._replace(value=None)
    return shared if shared.value else wanted._replace(value=_LOCAL_REDIS)


def _from_file(path: str) -> dict[str, str]:
    try:
        url = URLFile(path).read()
    except ConfigurationError:
        return {}  # The setting with the path says so.
    return {"value": url, "text": shown_url(url)}


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
    """Read whether tracebacks are logged, as a variable has it.

    Raises:
        ValueError: it is neither 1, 0 nor auto, nor another word for one of them.
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
    """How the text of a setting is read: its unit or kind, and the function, which raises ValueError."""

    unit: str
    read: Callable[[str], Any]
    check: Callable[[str, Any], Any] = _is_text
    """What the value is kept as that a program gives for this name; raises ConfigurationError."""


def _seconds(low: float, high: float) -> _Reader:
    def read(text: str) -> float:
        try:
            value = read_span(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(
                f"use a number of seconds from {low:g} to {high:g}, or a span such as 30s or 5m"
            )
        return value

    return _Reader(
        "seconds", read, lambda name, value: checked_seconds(name, value, low, high)
    )


def _integer(low: int, high: int, what: str) -> _Reader:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"use a whole number of {what} from {low} to {high}")
        return int(text)

    return _Reader(
        what, read, lambda name, value: checked_number(name, value, low, high)
    )


def parse_levels(text: str) -> Levels:
    """Read levels as they are written in a variable, e.g. ``0,1,5,10``.

    Raises:
        ValueError: they are written otherwise; the message says how.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"-?\d{1,9}", part) for part in parts):
        raise ValueError("use different integers with commas between, e.g. 0,1,5,10")
    return Levels(int(part) for part in parts)


def _serve_levels(text: str) -> Levels | None:
    return parse_levels(text) if text else None


def _choice(*allowed: str) -> _Reader:
    def read(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"use one of {', '.join(allowed)}")
        return text.lower()

    def check(name: str, value: Any) -> Any:
        if value not in allowed:
            raise ConfigurationError(
                f"{name} is one of {', '.join(allowed)}, not {value!r}"
            )
        return value

    return _Reader("word", read, check)


def _shown(text: str) -> str:
    """A value, unless it is long or looks like a URL, which may hold a password."""
    return (
        HIDDEN if len(text) > _LONGEST_SHOWN or "://" in text or "@" in text else text
    )


def shown_url(url: str) -> str:
    """A URL fit for showing: user, password and query, where there are any, are hidden."""
    scheme, mark, rest = url.partition("://")
    if not mark or not re.fullmatch(r"[a-z+]+", scheme):
        return HIDDEN
    before, question, query = rest.partition("?")
    if "@" in query:
        return f"{scheme}://{HIDDEN}"  # Where credentials end cannot be told.
    _, at, place = before.rpartition("@")
    return f"{scheme}://{HIDDEN if at else ''}{at}{place.partition('#')[0]}{question}{HIDDEN if question else ''}"


def _namespace(text: str) -> str:
    try:
        return checked_name(text)
    except ConfigurationError:
        raise ValueError(
            "use 1 to 100 letters, digits, '.', '_' or '-', starting with a letter or digit"
        ) from None


def _health(text: str) -> str:
    if text:
        Address.parse(text)
    return text


def _telemetry(text: str) -> str:
    words = dict.fromkeys(
        part.strip().lower() for part in text.split(",") if part.strip()
    )
    if not set(words) <= {"otlp", "prometheus"}:
        raise ValueError("use otlp, prometheus, or both with a comma between")
    return ",".join(words)


_READERS: dict[str, _Reader] = {
    "url_file": _Reader("path", _url_file),
    "namespace": _Reader("name", _namespace),
    "levels": _Reader(
        "integers", parse_levels, lambda name, value: checked_levels(value, name)
    ),
    "serve_levels": _Reader(
        "integers",
        _serve_levels,
        lambda name, value: value and checked_levels(value, name),
    ),
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
