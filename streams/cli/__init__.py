"""The command line. ``streams --help`` tells what there is."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from streams.cli.celery_words import hints
from streams.cli.encoding import take_what_there_is
from streams.cli.exit_codes import Exit, exit_code
from streams.errors import StreamsError

_BROKEN_PIPE = 128 + 13
"""As shells tell of SIGPIPE."""
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a full or failing disk on a file that is open; they name no file then."""
_OF_THE_EXTRA = ("typer", "rich", "click", "shellingham", "markdown_it", "pygments")


def main() -> None:
    """Run the command line; ends the process with a code of ``Exit``."""
    try:
        from streams.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _OF_THE_EXTRA:
            raise
        sys.stderr.write(
            "streams: the command line needs two more packages: pip install 'streams[cli]'\n"
        )
        sys.exit(Exit.USAGE)
    # Not Python's own handler: asyncio would replace that one, and Ctrl-C would not
    # end a wait for standard input. A job that a script started in the background
    # ignores Ctrl-C, which is meant for the job in the foreground.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    take_what_there_is()
    _run(app)


def _run(app: Callable[..., object]) -> None:
    """Run one command, and turn whatever ends it into a sentence and a code."""
    try:
        app(prog_name="streams")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else Exit.OK
        for line in hints(sys.argv[1:]) if code == Exit.USAGE else ():
            sys.stderr.write(f"streams: {line}\n")
        _end("", code)
    except StreamsError as error:
        _end(f"streams: {error}", exit_code(error))
    except KeyboardInterrupt:
        _end("", Exit.INTERRUPTED)
    except BrokenPipeError:
        _end("", _BROKEN_PIPE)
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        _end(_unwritten(error), Exit.FAILED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def _unwritten(error: OSError) -> str:
    return (
        f"streams: the output cannot be written: {error.strerror}; "
        "what the command was to do may be done"
    )


def _end(sentence: str, code: int) -> None:
    """One line on standard error, then the end; a closed pipe on either side stays quiet."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # The rest of the buffer has no reader: let the last flush go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if not isinstance(error, BrokenPipeError):
            sentence, code = sentence or _unwritten(error), code or Exit.FAILED
    try:
        if sentence:
            sys.stderr.write(" ".join(sentence.split()) + "\n")
            sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.exit(code)
