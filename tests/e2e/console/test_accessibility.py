"""axe-core over every view, in both themes, at a desk and on a phone: nothing serious, nothing critical."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.e2e.console.conftest import OpenPage
from tests.fakes import traffic
from tests.fakes.console_thread import ConsoleThread
from tests.fakes.scenes import SCENES

pytestmark = pytest.mark.browser
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]}}


def _serious(page: Page) -> list[tuple[str, str]]:
    """Return what is broken at the width of a desk, and then of a phone."""
    page.wait_for_timeout(500)
    found = _serious_now(page)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(400)
    return found + _serious_now(page)


def _serious_now(page: Page) -> list[tuple[str, str]]:
    found: list[dict[str, Any]] = Axe().run(page, options=RULES).response["violations"]
    return [
        (broken["id"], node["html"][:160])
        for broken in found
        if broken["impact"] in ("serious", "critical")
        for node in broken["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", ["mesh", "models", "chat", "requests", "add", "use"])
def test_a_view_has_no_serious_fault(
    console: ConsoleThread, open_page: OpenPage, view: str, theme: str
) -> None:
    console.do(lambda node: SCENES["split"]().play(node))
    console.do(traffic.play)
    page = open_page(f"/#{view}", operator=True, color_scheme=theme)
    if view == "chat":
        page.fill("#prompt", "Hi")
        page.press("#prompt", "Enter")
        page.get_by_role("button", name="Retry").wait_for()
        page.click("#settings-toggle")
    if view == "requests":
        page.locator("#request-table tbody button").nth(1).click()
    if view == "add":
        page.click("#join-show")
        page.get_by_role("button", name="Show as QR code").click()
    assert _serious(page) == []


@pytest.mark.parametrize("scene", ["dead", "drained", "failed", "loading", "empty", "hundred"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_state_has_no_serious_fault(
    console: ConsoleThread, open_page: OpenPage, scene: str, theme: str
) -> None:
    console.do(lambda node: SCENES[scene]().play(node))
    page = open_page(operator=True, color_scheme=theme)
    assert _serious(page) == []
    page.click("#account-menu summary")
    assert _serious_now(page) == [], "with the phone's menu open"


@pytest.mark.parametrize("path", ["/login", "/nothing", "/operator/used-up"])
def test_a_small_page_has_no_serious_fault(open_page: OpenPage, path: str) -> None:
    assert _serious(open_page(path)) == []
