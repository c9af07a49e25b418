"""The fallback to ``memory://`` for a program without a server, where it can be seen."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from streams.common.log_facts import logger_of
from streams.errors import ConfigurationError
from streams.settings import gather, in_production

logger = logger_of("pipeline")

_MEMORY = (
    "memory://, a server of its own: "
    "other programs do not see what it publishes, and all of it is lost when it ends"
)
_WRITE = (
    "Write STREAMS_URL=redis://HOST:6379/0, "
    "or STREAMS_URL=embedded://PATH for a server that keeps its data in a folder"
)
_said: list[str] = []


def accept_memory() -> None:
    """Use ``memory://``, with a warning once per process.

    Raises:
        ConfigurationError: the warning would go unseen, because ``STREAMS_ENV`` is
            ``production`` or there is no terminal.
    """
    if in_production(gather(os.environ, Path.cwd())):
        why = "STREAMS_ENV is production"
    elif not is_attended():
        why = "this program has no terminal, as in a deployment"
    else:
        if not _said:
            _said.append(_MEMORY)
            logger.warning(
                "no server is given (STREAMS_URL, REDIS_URL), "
                "so this program uses %s. %s. "
                "With STREAMS_URL=memory:// this is not said",
                _MEMORY,
                _WRITE,
            )

        return

    raise ConfigurationError(
        f"no server is given (STREAMS_URL, REDIS_URL), and {why}: "
        f"it would use {_MEMORY}. {_WRITE}; "
        "or STREAMS_URL=memory:// if that is what you want"
    )


def is_attended() -> bool:
    """Whether a person sees the output: in a terminal, or in a notebook."""
    if sys.flags.interactive or hasattr(sys, "ps1"):
        return True

    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # It does not exist, or is closed.
        return False
