"""Commands as a user types them, each in a process of its own, without half a second of imports for each.

The processes are forked from one that has imported the command line. What it is to start ``python -m streams`` anew is
proven by ``tests/process/test_cli.py``.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from streams.cli import main

_PATIENCE = 60.0
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.preloaded", __name__])


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def run(*arguments: str, env: Mapping[str, str] | None = None, folder: Path | None = None) -> Ran:
    """Type ``streams ARGUMENTS`` and wait for the end. Blocks; call it in a thread beside an event loop.

    Args:
        arguments: behind the name of the program.
        env: the whole environment; that of this process if none is given.
        folder: where it is typed; the current one if none is given.

    Raises:
        TimeoutError: it does not end within a minute.
    """
    environment = dict(os.environ if env is None else env)
    with tempfile.TemporaryDirectory() as place:
        paths = Path(place, "out"), Path(place, "err")
        given = (arguments, environment, str(folder or Path.cwd()), tuple(map(str, paths)))
        process = _context.Process(target=_play, args=given)
        process.start()
        try:
            process.join(_PATIENCE)
            if process.exitcode is None:
                raise TimeoutError(f"streams {' '.join(arguments)}: no end within {_PATIENCE} s")
            return Ran(process.exitcode, *(path.read_text("utf-8", "replace") for path in paths))
        finally:
            process.kill()
            process.join()
            process.close()


def _play(arguments: tuple[str, ...], environment: dict[str, str], folder: str, paths: tuple[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in zip((1, 2), paths, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
    sys.argv = ["streams", *arguments]
    main()
