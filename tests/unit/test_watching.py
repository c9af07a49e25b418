"""Which folder belongs to a target, and which changes in it count."""

from __future__ import annotations

import asyncio
import sys

import pytest

from streams.errors import ConfigurationError
from streams.worker.reload import FolderWatch, folder_of


def test_the_folder_of_a_target(tmp_path, monkeypatch):
    app, installed, elsewhere = (
        tmp_path / "app",
        tmp_path / "site-packages" / "installed",
        tmp_path / "elsewhere",
    )
    for package in (app, installed, elsewhere / "other"):
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
    (tmp_path / "shop.py").write_text("raise SystemExit('nothing is imported')")
    monkeypatch.setattr(sys, "path", [str(elsewhere), str(installed.parent), *sys.path])
    for target, folder in {
        "shop:pipeline": tmp_path,
        "shop.py:pipeline": tmp_path,
        "app/events.py:pipeline": app,
        f"{app}/events.py:pipeline": app,
        "app.events.deep:pipeline": tmp_path,
        "other.events:pipeline": elsewhere,
        "installed.events:pipeline": installed,
        "not_written_yet:pipeline": tmp_path,
        "sys:pipeline": tmp_path,
    }.items():
        assert folder_of(target) == folder, target
    with pytest.raises(ConfigurationError, match="nowhere"):
        folder_of("nowhere/shop.py:pipeline")


async def test_changes_that_count(tmp_path):
    (tmp_path / "deep").mkdir()
    async with FolderWatch(tmp_path) as watch:
        for name in ("notes.txt", "shop.pyc", "shop.py~", "deep/shop.py", ".env.local"):
            (tmp_path / name).write_text("1")
        async with asyncio.timeout(5):
            assert await watch.changed() == [".env.local", "deep/shop.py"]
            (tmp_path / "shop.py").write_text("1")
            assert await watch.changed() == ["shop.py"]
