"""axe-core over every view, in both themes: nothing serious, nothing critical."""

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
    page.wait_for_timeout(500)
    assert _serious(page) == []


@pytest.mark.parametrize("scene", ["dead", "failed", "loading", "empty", "hundred"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_state_has_no_serious_fault(
    console: ConsoleThread, open_page: OpenPage, scene: str, theme: str
) -> None:
    console.do(lambda node: SCENES[scene]().play(node))
    page = open_page(operator=True, color_scheme=theme)
    page.wait_for_timeout(500)
    assert _serious(page) == []


@pytest.mark.parametrize("path", ["/login", "/nothing", "/operator/used-up"])
def test_a_small_page_has_no_serious_fault(open_page: OpenPage, path: str) -> None:
    assert _serious(open_page(path)) == []
