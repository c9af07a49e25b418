"""Old names of documented modules, which can still be imported, with a warning."""

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
"""The present name of each moved module."""


class MovedModules(MetaPathFinder, Loader):
    """Finds moved modules. It is asked last, so that other imports pay nothing."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The spec of a moved module; None for any other one."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself, not a copy, so that its classes exist only once."""
        place = MOVED[spec.name]
        said = f"{spec.name} has moved: import {place}"
        warnings.warn(said, DeprecationWarning, stacklevel=2)
        module = importlib.import_module(place)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec. It has run under its present name already."""
        spec = module.__spec__
        if spec is not None and spec.loader_state is not None:
            module.__spec__ = spec.loader_state


_FINDER = MovedModules()


def find_moved() -> None:
    """Make the old names importable."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
