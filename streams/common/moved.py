"""Modules that pages named before they moved: importing them by the old name works, and warns."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "streams.admin.impatience": "streams.admin.cancellations",
    "streams.cloudevents": "streams.events.cloudevents",
    "streams.event": "streams.events.event",
    "streams.registry": "streams.handlers.registry",
    "streams.vitals": "streams.consuming.vitals",
}
"""Old name to where the module is."""


class MovedModules(MetaPathFinder, Loader):
    """Finds moved modules; asked last, so that it costs nothing where a module is found."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Say that a moved module can be loaded here."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself, not a copy: its classes are the same by either name."""
        place = MOVED[spec.name]
        warnings.warn(
            f"{spec.name} has moved: import {place}", DeprecationWarning, stacklevel=2
        )
        module = importlib.import_module(place)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it ran when it was imported by its own name, which it keeps."""
        spec = module.__spec__
        if spec is not None and spec.loader_state is not None:
            module.__spec__ = spec.loader_state


def find_moved() -> None:
    """Let the old names be found from now on."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
