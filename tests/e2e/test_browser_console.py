"""The console in a real Chromium: live, streamed, stoppable, and inert to hostile names."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import chromium
from tests.fakes.console_thread import ConsoleThread
from tests.fakes.node_handle import ScriptedNode, model_entry, serving_state

pytestmark = pytest.mark.browser
HOSTILE = '<img src=x onerror="window.hurt=1">'


@pytest.fixture(scope="module")
def console() -> Iterator[ConsoleThread]:
    served = ConsoleThread()
    yield served
    served.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(console: ConsoleThread, browser: Browser) -> Iterator[Page]:
    console.restart_node()
    console.do(lambda node: node.feed.publish(serving_state()))
    opened = browser.new_page(viewport={"width": 390, "height": 844})
    opened.goto(console.url)
    opened.wait_for_selector("body[data-phase=live]")
    yield opened
    opened.close()


def _wide(page: Page) -> Any:
    return page.evaluate("document.documentElement.scrollWidth")


def test_changes_show_and_hostile_names_stay_text(console: ConsoleThread, page: Page) -> None:
    entry = model_entry(HOSTILE, reason=HOSTILE)
    console.do(lambda node: node.feed.publish({f"model/{HOSTILE}": entry}))
    console.do(lambda node: node.feed.record({"at": time.time(), "level": "info", "text": HOSTILE}))
    expect(page.locator("#serving .model-name", has_text=HOSTILE)).to_be_visible()
    expect(page.locator("#timeline")).to_contain_text(HOSTILE)
    assert page.evaluate("window.hurt") is None
    assert _wide(page) == 390


def test_a_chat_streams_and_stops(console: ConsoleThread, page: Page) -> None:
    console.do(lambda node: setattr(node.api, "deltas", [{"content": "**word** "}] * 2000))
    console.do(lambda node: setattr(node.api, "pause_s", 0.02))
    page.click("[data-view-link=chat]")
    page.fill("#prompt", "Hi")
    page.press("#prompt", "Enter")
    expect(page.locator(".prose strong").first).to_be_visible()
    page.click("#stop")
    expect(page.locator(".message .meta")).to_contain_text("Stopped")
    expect(page.locator("#send")).to_be_visible()
    deadline = time.monotonic() + 5
    while not console.node.api.cancelled and time.monotonic() < deadline:
        time.sleep(0.05)
    assert console.node.api.cancelled == 1


def test_a_lost_connection_shows_and_heals(console: ConsoleThread, page: Page) -> None:
    console.close()
    expect(page.locator("#connection")).to_contain_text("econnecting", timeout=8000)
    console.do(lambda node: node.feed.publish({"model/new": model_entry("new")}))
    console.open()
    expect(page.locator("#connection")).to_have_text("Live", timeout=20000)
    expect(page.locator("#serving .model-name", has_text="new")).to_be_visible()


def test_models_open_at_their_top(console: ConsoleThread, page: Page) -> None:
    many = {f"model/m{number}": model_entry(f"m{number}") for number in range(12)}
    console.do(lambda node: node.feed.publish(many))
    page.goto(f"{console.url}/#models")
    page.reload()
    page.wait_for_selector("body[data-phase=live]")
    expect(page.locator("#models-title")).to_be_in_viewport()
    assert page.evaluate("scrollY") == 0


def test_join_commands_stay_within_their_card(console: ConsoleThread, page: Page) -> None:
    console.do(lambda node: ScriptedNode(can_join=True).install())
    page.set_viewport_size({"width": 1440, "height": 900})
    page.reload()
    page.click("[data-view-link=add]")
    page.evaluate(
        """() => {
          const box = document.createElement("pre");
          box.textContent = "x".repeat(900);
          box.style.overflow = "auto";
          document.getElementById("join").append(box);
        }"""
    )
    assert _wide(page) == 1440
