"""Chromium, driven from outside: what somebody sees and presses."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, async_playwright

from tests.dashboard.board import PASSWORD

ARTEFACTS = Path(__file__).parents[2] / ".artefacts"
"""Where screenshots are kept, to be looked at."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("STREAMS_TEST_CHROMIUM") or next(
    filter(None, map(shutil.which, NAMES)), ""
)
REQUIRED = os.environ.get("STREAMS_TEST_BROWSER") == "required"
"""Whether a missing Chromium fails the tests instead of leaving them out: it does so wherever a change is judged."""
needs_chromium = pytest.mark.skipif(
    not CHROMIUM and not REQUIRED,
    reason="no Chromium on PATH; the pages' content is tested without, in tests/dashboard",
)


class Window:
    """A browser window, with what must not happen in it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        self.left: list[str] = []
        page.on(
            "console",
            lambda message: (
                self.complaints.append(message.text)
                if message.type == "error"
                else None
            ),
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._requested(request.url))

    async def open(self, path: str) -> None:
        """Go to a page."""
        await self.page.goto(self.url + path)

    async def log_in(self, name: str, password: str = PASSWORD) -> None:
        """Fill in the form and send it."""
        await self.open("/login")
        await self.page.get_by_label("Name").fill(name)
        await self.page.get_by_label("Password").fill(password)
        await self.page.get_by_role("button", name="Log in").click()

    async def keep(self, name: str) -> None:
        """Take a screenshot."""
        ARTEFACTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)

    def _requested(self, url: str) -> None:
        if not url.startswith((self.url, "data:")):
            self.left.append(url)


@asynccontextmanager
async def window(url: str, **options: Any) -> AsyncIterator[Window]:
    """Open a browser; whoever leaves it made no complaint, and asked nobody else for anything."""
    assert CHROMIUM, (
        "a browser is required here and there is none on PATH: apt-get install chromium"
    )
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        try:
            context: BrowserContext = await browser.new_context(
                locale="en-US", timezone_id="America/Sao_Paulo", **options
            )
            context.set_default_timeout(15_000)
            made = Window(await context.new_page(), url)
            yield made
            assert made.left == []
            assert made.complaints == []
        finally:
            await browser.close()
