"""The dashboard in a real browser, over a real server and worker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.async_api import expect

from streams import Event, Pipeline, Retry, Settings
from tests.browser.browser import needs_chromium, window
from tests.conftest import eventually
from tests.dashboard.board import board, trouble

pytestmark = needs_chromium
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
PAGES = (
    "/", "/workers", "/whatsapp", "/whatsapp/endpoints", "/doctor", "/audit", "/search?q=plain",
    "/streams/orders?group=billing", "/streams/orders?group=billing&state=retrying",
    "/streams/orders?group=billing&state=scheduled&reach=quarter", "/streams/orders/dead?group=billing",
    "/streams/orders/event?id=waits-0%20plain", "/nowhere",
)  # fmt: skip


async def test_somebody_is_woken_at_night_and_mends_it(server, namespace):
    pipeline, is_mended = (
        Pipeline(settings=Settings(url=server.url, namespace=namespace)),
        False,
    )
    handled: list[str] = []

    @pipeline.handler("orders", group="billing", retry=Retry(max_retries=0))
    async def charge(event: Event) -> None:
        if not is_mended and event.type == "order.created":
            raise OSError("the bank does not answer")
        handled.append(event.id)

    running = asyncio.create_task(pipeline.run())
    async with (
        pipeline.twin() as other,
        board(server, namespace) as place,
        window(place.url) as browser,
    ):
        page = browser.page
        await browser.log_in("operator", "not the password")
        await expect(page.get_by_role("alert")).to_have_text(
            "Name or password is wrong."
        )
        browser.complaints.clear()  # Chromium writes a 401 down as an error.
        await browser.log_in("operator")
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        await expect(page.locator(".live")).to_have_attribute(
            "sse-connect", "/live/overview"
        )
        await other.publish_many("orders", [1, 2], type="order.created", tenant="acme")
        await other.publish("orders", 3, type="order.paid")
        # It comes by itself.
        await expect(page.locator("td a.bad")).to_have_text("2", timeout=20_000)
        await browser.keep("overview")
        await page.locator("td a.bad").click()
        await page.get_by_label("Error").fill("bank does not")
        await page.get_by_role("button", name="Filter").click()
        rows = page.locator("form[action$='/replay'] tbody tr")
        await expect(rows).to_have_count(2)
        await browser.keep("dead-letters")
        is_mended = True
        await rows.first.get_by_role("checkbox").check()
        await page.get_by_role("button", name="Replay").click()
        await expect(page.get_by_role("heading", name="Are you sure?")).to_be_visible()
        await expect(page.get_by_text("begins anew")).to_be_visible()
        await browser.keep("are-you-sure")
        await page.get_by_role("button", name="Replay").click()
        await expect(page.get_by_role("status")).to_have_text("1 event was put back")
        await eventually(lambda: len(handled) == 2, what="the event that was put back")
        await page.get_by_label("All that match").check()
        await page.get_by_role("button", name="Replay").click()
        await page.get_by_label("Per second").fill("50")
        await page.get_by_role("button", name="Replay").click()
        await eventually(lambda: len(handled) == 3, what="the other one")
        await browser.open("/streams/orders/dead?group=billing")
        await expect(page.get_by_text("Nothing here.")).to_be_visible()
        await expect(page.get_by_text("What became of replays")).to_be_visible()
        await browser.open("/streams/orders?group=billing")
        await page.get_by_label("Reason").fill("the bank asked for it")
        await page.get_by_role("button", name="Pause").click()
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("status")).to_contain_text("is paused")
        await other.publish("orders", 4, type="order.paid")
        await browser.open("/streams/orders?group=billing")
        await expect(page.get_by_text("the bank asked for it")).to_be_visible()
        await expect(page.locator(".live tbody td").nth(0)).to_have_text("0")
        await page.get_by_role("button", name="Resume").click()
        await page.get_by_role("button", name="Resume").click()
        await eventually(lambda: len(handled) == 4, what="what was held back")
        await browser.open("/audit")
        await expect(
            page.get_by_role("row").filter(has_text="dashboard: operator")
        ).to_have_count(4)
    pipeline.stop()
    await running


async def test_who_may_not_act_finds_no_button_and_nothing_to_send(server, namespace):
    await trouble(server, namespace)
    async with board(server, namespace) as place, window(place.url) as browser:
        await browser.open("/streams/orders")
        await expect(browser.page).to_have_url(f"{place.url}/login")
        await browser.log_in("viewer")
        for path in PAGES[:-1]:
            await browser.open(path)
            await expect(browser.page.locator("main form[method=post]")).to_have_count(
                0
            )
            for name in (
                "Pause",
                "Replay",
                "Discard",
                "Cancel",
                "Run now",
                "Show the body",
            ):
                await expect(
                    browser.page.get_by_role("button", name=name)
                ).to_have_count(0)
        browser.complaints.clear()


async def test_it_works_without_scripts(server, namespace):
    await trouble(server, namespace)
    async with (
        board(server, namespace) as place,
        window(place.url, java_script_enabled=False) as browser,
    ):
        page = browser.page
        await browser.log_in("operator")
        await page.get_by_role("link", name="orders").first.click()
        await expect(page.locator("figure svg")).to_be_visible()
        await page.get_by_role("link", name="Scheduled").click()
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_role("status")).to_contain_text("was cancelled")
        await expect(page.locator("time").first).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_read_and_use_it(server, namespace, scheme):
    await trouble(server, namespace)
    async with (
        board(server, namespace) as place,
        window(place.url, color_scheme=scheme, bypass_csp=True) as browser,
    ):
        await browser.open("/login")
        problems = {"/login": await violations(browser.page)}
        await browser.log_in("admin")
        for path in PAGES:
            await browser.open(path)
            problems[path] = await violations(browser.page)
            await browser.keep(
                f"{scheme}-{path.strip('/').replace('/', '-').partition('?')[0] or 'home'}"
            )
        browser.complaints.clear()  # The page that is not there.
        assert {path: found for path, found in problems.items() if found} == {}


async def test_it_fits_on_a_telephone_and_in_the_hands_of_a_keyboard(server, namespace):
    await trouble(server, namespace)
    phone = {"width": 360, "height": 740}
    async with (
        board(server, namespace) as place,
        window(place.url, viewport=phone) as browser,
    ):
        page = browser.page
        await browser.log_in("admin")
        for path in PAGES[:-1]:
            await browser.open(path)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 360, (
                path
            )
        await browser.keep("telephone")
        await browser.open("/")
        await page.keyboard.press("Tab")
        await expect(page.locator(":focus")).to_have_text("Skip to content")
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()


async def test_charts_are_drawn_and_times_are_those_of_the_reader(server, namespace):
    await trouble(server, namespace)
    async with board(server, namespace) as place, window(place.url) as browser:
        await browser.log_in("viewer")
        for reach in ("Hour", "Day", "90 days"):
            await browser.open("/streams/orders?group=billing")
            await browser.page.get_by_role("link", name=reach, exact=True).click()
            await expect(browser.page.locator("figure .uplot canvas")).to_be_visible()
            await expect(browser.page.locator("figure svg")).to_have_count(0)
        await browser.open("/streams/orders/dead?group=billing")
        shown = browser.page.locator("tbody time").first
        exact = await shown.get_attribute("title")
        at = await browser.page.evaluate(
            "(text) => new Date(text).toLocaleString()", exact
        )
        await expect(shown).to_have_text(at)
        assert exact is not None
        assert exact.endswith("+00:00")


async def test_where_events_cannot_be_sent_the_page_asks(server, namespace):
    await trouble(server, namespace)
    async with board(server, namespace) as place, window(place.url) as browser:

        async def refuse(route) -> None:
            if "event-stream" in (await route.request.all_headers()).get("accept", ""):
                await route.abort()
            else:
                await route.continue_()

        await browser.page.route("**/live/**", refuse)
        await browser.log_in("viewer")
        await expect(
            browser.page.get_by_role("link", name="orders").first
        ).to_be_visible()
        await place.pipeline.publish("invoices", 1, type="t")
        await expect(
            browser.page.get_by_role("link", name="invoices").first
        ).to_be_visible(timeout=20_000)
        browser.complaints.clear()  # That it cannot connect.


async def violations(page) -> list[str]:
    """What axe finds, of WCAG 2.1 A and AA and best practice."""
    await page.evaluate(AXE)
    found = await page.evaluate("axe.run()")
    return [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
