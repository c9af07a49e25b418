"""Commands as a user types them, and programs of tests, each in a process of its own, without half a second of imports.

The processes are forked from one that has imported what they need. What it is to start ``python -m streams`` anew is
proven by ``tests/process/test_cli.py``.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import reduction
from pathlib import Path
from typing import Any, NamedTuple

from streams.cli import main

_PATIENCE = 60.0
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.preloaded", __name__])


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Program(subprocess.Popen[Any]):
    """A process with a program of ours, forked; otherwise a ``Popen``, with what that takes and does.

    Args:
        main: what it does; a function of a module that ``tests.preloaded`` imports.
        given: the arguments of ``main``.
        process_group: 0 for a group of its own.
        how: what ``Popen`` takes: folder, environment, files.
    """

    def __init__(
        self,
        main: Callable[..., None],
        given: Sequence[object],
        *,
        process_group: int | None = None,
        **how: Any,
    ) -> None:
        self._main, self._given, self._group = main, tuple(given), process_group
        super().__init__([main.__name__, *map(str, given)], **how)

    def _execute_child(self, *given: Any) -> None:
        (
            _,
            _,
            _,
            _,
            _,
            cwd,
            env,
            _,
            _,
            _,
            stdin,
            to_stdin,
            from_stdout,
            stdout,
            from_stderr,
            stderr,
            *_,
        ) = given
        files = tuple(
            _File(mine if given < 0 else given)
            for mine, given in enumerate((stdin, stdout, stderr))
        )
        start = _Start(
            files,
            dict(os.environ if env is None else env),
            str(cwd or Path.cwd()),
            self._group,
        )
        self._process = _context.Process(
            target=_play, args=(start, self._main, self._given)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self._child_created = True
        self._close_pipe_fds(stdin, to_stdin, from_stdout, stdout, from_stderr, stderr)

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None:
            self.returncode = self._process.exitcode  # type: ignore[assignment] # None while it runs
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        self._process.join(timeout)
        if self._internal_poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self.returncode


class _File:
    """An open file that goes along to the new process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[Any], _File], tuple[Any]]:
        return _arrived, (reduction.DupFd(self.number),)


def _arrived(passed: Any) -> _File:
    return _File(passed.detach())


def streams(*arguments: str, **how: Any) -> Program:
    """Type ``streams ARGUMENTS``; ``how``: as for ``Program``."""
    return Program(command, arguments, **how)


def run(
    *arguments: str, env: Mapping[str, str] | None = None, folder: Path | None = None
) -> Ran:
    """Type ``streams ARGUMENTS`` and wait for the end. Blocks; call it in a thread beside an event loop.

    Args:
        arguments: behind the name of the program.
        env: the whole environment; that of this process if none is given.
        folder: where it is typed; the current one if none is given.

    Raises:
        TimeoutError: it does not end within a minute.
    """
    files = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with streams(
        *arguments, env=env, cwd=folder, stdin=subprocess.DEVNULL, **files, text=True
    ) as program:
        try:
            out, err = program.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"streams {' '.join(arguments)}: no end within {_PATIENCE} s"
            ) from None
        finally:
            program.kill()
    return Ran(program.returncode, out, err)


def command(*arguments: str) -> None:
    """Be ``streams ARGUMENTS``."""
    sys.argv = ["streams", *arguments]
    main()


class _Start(NamedTuple):
    """How a process begins. ``files``: input, output and errors; ``group``: of processes, 0 for one of its own."""

    files: tuple[_File, ...]
    env: dict[str, str]
    folder: str
    group: int | None


def _play(start: _Start, main: Callable[..., None], given: tuple[object, ...]) -> None:
    if start.group is not None:
        os.setpgid(0, start.group)
    os.environ.clear()
    os.environ.update(start.env)
    os.chdir(start.folder)
    for number, file in enumerate(start.files):
        os.dup2(file.number, number)
        os.close(file.number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
    main(*given)
