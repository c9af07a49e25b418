"""Imports that pages showed before modules moved."""

from __future__ import annotations

import importlib
import sys

import pytest

from streams.common.moved import MOVED, find_moved

DOCUMENTED = (
    "streams.address", "streams.dashboard", "streams.doctor", "streams.errors", "streams.health", "streams.middleware",
    "streams.settings", "streams.sync", "streams.telemetry", "streams.testing", "streams.whatsapp",
)  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_documented_module_is_where_it_was(name):
    importlib.import_module(name)


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_a_module_that_moved_is_found_by_its_old_name_with_a_warning(
    old, new, monkeypatch
):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} has moved: import {new}"):
        found = importlib.import_module(old)
    assert found is importlib.import_module(new)
    assert (found.__name__, found.__spec__.name) == (new, new)
    monkeypatch.delitem(sys.modules, old)


def test_a_name_that_never_was_is_missing_as_ever():
    find_moved()
    with pytest.raises(ModuleNotFoundError, match=r"streams\.nothing"):
        importlib.import_module("streams.nothing")
    assert sum(type(finder).__name__ == "MovedModules" for finder in sys.meta_path) == 1
