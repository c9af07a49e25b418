"""What is to be done around a fork, where there are forks: Windows has none, and needs none of it. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable


def _nothing() -> None:
    """There is nothing to do."""


def at_fork(
    *,
    before: Callable[[], object] = _nothing,
    after_in_parent: Callable[[], object] = _nothing,
    after_in_child: Callable[[], object] = _nothing,
) -> None:
    """As ``os.register_at_fork``; nothing where the system has no forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=before,
            after_in_parent=after_in_parent,
            after_in_child=after_in_child,
        )
