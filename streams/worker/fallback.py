"""A program that was given no server: it may go on with one that keeps nothing, where a person sees that it does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from streams.common.log_facts import logger_of
from streams.errors import ConfigurationError
from streams.settings import gather, in_production

logger = logger_of("pipeline")

_WHAT = (
    "it would use memory://, a server of its own: other programs do not see what it publishes, and all of it is lost"
    " when it ends"
)
_WRITE = (
    "Write STREAMS_URL=redis://HOST:6379/0, or STREAMS_URL=embedded://PATH for a server that"
    " keeps its data in a folder"
)
_said: list[str] = []


def accept_memory() -> None:
    """Go on without a server that somebody named, and warn of it, once per process.

    Raises:
        ConfigurationError: nobody would see the warning: ``STREAMS_ENV`` is ``production``, or no terminal is there.
    """
    if in_production(gather(os.environ, Path.cwd())):
        why = "STREAMS_ENV is production"
    elif not is_attended():
        why = "this program has no terminal, as in a deployment"
    else:
        if not _said:
            _said.append(_WHAT)
            logger.warning(
                "no server is given (STREAMS_URL, REDIS_URL), so this program uses memory://, a server of its own:"
                " other programs do not see what it publishes, and all of it is lost when it ends. %s. With"
                " STREAMS_URL=memory:// this is not said",
                _WRITE,
            )
        return
    raise ConfigurationError(
        f"no server is given (STREAMS_URL, REDIS_URL), and {why}: {_WHAT}. {_WRITE}; or STREAMS_URL=memory:// if"
        " that is what you want"
    )


def is_attended() -> bool:
    """Whether a person is there: standard error is a terminal, or Python is asked line by line, as in a notebook."""
    if sys.flags.interactive or hasattr(sys, "ps1"):
        return True
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # There is none, or it is closed.
        return False
