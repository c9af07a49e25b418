"""Hooks around a fork, on systems that have forks. Windows has none. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable


def _nothing() -> None:
    """The default hook."""


def at_fork(
    *,
    before: Callable[[], object] = _nothing,
    after_in_parent: Callable[[], object] = _nothing,
    after_in_child: Callable[[], object] = _nothing,
) -> None:
    """Call ``os.register_at_fork``, if the system has forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=before,
            after_in_parent=after_in_parent,
            after_in_child=after_in_child,
        )
