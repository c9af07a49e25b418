"""The worker as a process: it finds its pipeline, runs it, and surely ends."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from streams.common.exception_text import describe_error
from streams.common.log_facts import logger_of
from streams.errors import ConfigurationError, StreamsError
from streams.pipeline import Pipeline
from streams.sync import Pipeline as BlockingPipeline
from streams.worker import django_apps
from streams.worker.service import EXIT_FORCED

logger = logger_of("worker")

_LET_GO = 2.0
"""Seconds that the interpreter gets to end after an orderly stop, before it is ended."""
_WITHOUT = "a handler does not let go: the process is ended without it"


def load(target: str) -> Pipeline:
    """The pipeline that ``MODULE:NAME`` names.

    For example ``shop:pipeline``, ``app.events:pipeline`` or ``shop.py:pipeline``.

    The working directory is searched first, as with ``python -m``. Where the
    environment names the settings of a Django project, or the module itself does so,
    ``django.setup()`` is called.

    Raises:
        ConfigurationError: the target has another form, its module or name is missing,
            importing it failed, it names no pipeline, or ``django.setup()`` failed; the
            message says what to do.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise ConfigurationError(
            f"{target!r} is not of the form MODULE:NAME: give the module, a colon, "
            "and the name of the pipeline in it, "
            "e.g. shop:pipeline or shop.py:pipeline"
        )
    if django_apps.is_named():
        # As manage.py finds the settings, wherever the module is.
        _search_first(Path.cwd())
        django_apps.set_up()
    module = (
        _import_file(Path(place))
        if place.endswith(".py") or "/" in place
        else _import_module(place)
    )
    if django_apps.are_missing():
        django_apps.set_up()
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Pipeline):
        return found
    if isinstance(found, BlockingPipeline):
        return found.asynchronous
    known = sorted(
        key
        for key, value in vars(module).items()
        if isinstance(value, (Pipeline, BlockingPipeline))
    )
    hint = (
        f"it has {', '.join(known)}"
        if known
        else "it has no pipeline: write pipeline = Pipeline.from_env() in it"
    )
    if found is None:
        raise ConfigurationError(f"{place} has no {name!r}; {hint}")
    raise ConfigurationError(
        f"{target} is a {type(found).__name__}, not a streams.Pipeline; {hint}"
    )


def run_worker(pipeline: Pipeline) -> int:
    """Run a pipeline until SIGTERM, SIGINT or SIGHUP; returns the exit code.

    A handler that ignores its cancellation, or a thread that never returns, cannot hold
    up the process, which ends without it; the exit code ``EXIT_FORCED`` tells of it.
    The interpreter gets a moment for its own end.

    Raises:
        ConfigurationError: no handler is declared, or a setting cannot be right.
        AccessDenied: the credentials or permissions do not suffice.
        BrokerUnavailable: the server cannot be reached at the start, and is not to be waited for.
    """
    asyncio.run(_run(pipeline))
    if not pipeline.abandoned:
        return 0
    logger.warning(_WITHOUT, extra={"handlers": pipeline.abandoned})
    return EXIT_FORCED


async def _run(pipeline: Pipeline) -> None:
    try:
        await pipeline.run()
    finally:
        # asyncio.run joins threads of the standard pool without a limit, and so does the
        # interpreter at its end.
        last = threading.Timer(_LET_GO, _end_now)
        last.daemon = True
        last.start()


def _end_now() -> None:
    logger.warning(_WITHOUT)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(EXIT_FORCED)


def _import_module(name: str) -> ModuleType:
    _search_first(Path.cwd())
    with _importing(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}.") or _taken(error):
                raise
            raise ConfigurationError(
                f"there is no module {error.name!r} in {Path.cwd()} or among the "
                "installed packages: run the worker in the "
                "folder that has it, install it, or give the path of the file, e.g. "
                "path/to/shop.py:pipeline"
            ) from None


def _import_file(path: Path) -> ModuleType:
    """Import a file by its path, under its own name, with its folder searched first."""
    if not path.is_file():
        raise ConfigurationError(
            f"there is no file {path}: give the path of a Python file, e.g. "
            "path/to/shop.py:pipeline"
        )
    _search_first(path.resolve().parent)
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} is not a Python file: its name ends in .py")
    module = importlib.util.module_from_spec(spec)
    # Handlers may need the module by its name, as dataclasses do, unless that name means
    # something else already.
    sys.modules.setdefault(path.stem, module)
    with _importing(str(path)):
        spec.loader.exec_module(module)
    return module


def _search_first(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


@contextlib.contextmanager
def _importing(what: str) -> Iterator[None]:
    """Turn an error of user code into a sentence that says where it was raised.

    Raises:
        ConfigurationError: importing failed.
    """
    try:
        yield
    except StreamsError:
        raise
    except Exception as error:
        facts = describe_error(error, "")
        where = f" ({facts['where']})" if facts["where"] else ""
        # A file that cannot be compiled has no place in itself; its message names the
        # file and the line.
        if isinstance(error, SyntaxError):
            where = ""
        said = f"{facts['type']}: {facts['message']}{where}{_taken(error)}"
        raise ConfigurationError(f"importing {what} failed with {said}") from error


def _taken(error: Exception) -> str:
    """Advice where a file of the program has the name of a package it needs; else ''."""
    name = (
        (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    )
    if name not in ("streams", "redis"):
        return ""
    for path in (Path.cwd() / name, Path.cwd() / f"{name}.py"):
        if path.exists() and path.resolve() != Path(__file__).resolve().parents[1]:
            return (
                f"; {path} has the name of a package that is needed here: "
                "give it another name"
            )
    return ""
