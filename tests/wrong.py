"""Wrong arguments, tried one after the other: whatever is refused is refused in words, and never from inside."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import streams
from streams import StreamsError

PACKAGE = str(Path(streams.__file__).parent)
WRONG = (
    *(
        object(),
        3.5,
        -1,
        True,
        None,
        float("nan"),
        10**30,
        "",
        "no such thing",
        b"x",
        len,
        ValueError,
    ),
    *((), [1], [None], {"a": 1}, {1: 2}, {"a"}),
)
"""Something of every kind that is given by mistake."""


def walk(
    call: Callable[..., Any], valid: Mapping[str, Any], *, tried: tuple[str, ...] = ()
) -> Iterator[str]:
    """Call with each argument wrong in turn; gives a line for every error that a caller could make nothing of.

    Args:
        call: what is called.
        valid: arguments that it takes.
        tried: those that are made wrong; empty: all.
    """
    for name in tried or valid:
        for wrong in WRONG:
            try:
                call(**{**valid, name: wrong})
            except StreamsError:
                continue
            except Exception as error:  # noqa: BLE001 - whichever it is, it is looked at
                if frames := [
                    frame
                    for frame in traceback.extract_tb(error.__traceback__)
                    if _is_ours(frame)
                ]:
                    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
                    yield f"{name}={wrong!r}: {type(error).__name__}: {error} ({where})"


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(PACKAGE)
