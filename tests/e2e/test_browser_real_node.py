"""The console of a whole node in a real Chromium: a chat with the real engine, and what is shown live."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import chromium
from tests.e2e.node_process import NodeProcess

pytestmark = [pytest.mark.browser, pytest.mark.engine, pytest.mark.e2e]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def node(home: Path, engine_dir: Path) -> Iterator[NodeProcess]:
    with NodeProcess(home, engine=engine_dir) as started:
        yield started


@pytest.fixture
def page(browser: Browser, node: NodeProcess) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1440, "height": 900})
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    opened.goto(node.console)
    opened.wait_for_selector("body[data-phase=live]")
    yield opened
    opened.close()
    refused = [e for e in errors if "Content Security Policy" in e or "TypeError" in e]
    assert not refused


def test_question_is_answered_by_the_real_engine_with_speed_and_node(
    page: Page, node: NodeProcess
) -> None:
    expect(page.locator("#serving .model-name")).to_have_text("mesh-demo")
    page.click("[data-view-link=chat]")
    page.fill("#prompt", "What is a mesh?")
    page.press("#prompt", "Enter")
    expect(page.locator(".message .prose").last).to_contain_text("machines", timeout=15000)
    expect(page.locator(".message .meta").last).to_contain_text(re.compile(r"tokens?/s"))
    page.reload()
    page.click("[data-view-link=chat]")
    expect(page.locator(".message .prose").last).to_contain_text("machines")


def test_model_picker_is_hidden_while_one_model_is_warm(page: Page) -> None:
    page.click("[data-view-link=chat]")
    expect(page.locator("#model-picker")).to_be_hidden()


def test_killed_engine_shows_at_once_and_the_new_one_too(page: Page, node: NodeProcess) -> None:
    node.engine_process().kill()
    expect(page.locator("#timeline")).to_contain_text("Trying again in", timeout=5000)
    expect(page.locator("#timeline")).to_contain_text("mesh-demo is ready", timeout=10000)
    expect(page.locator("#node-state")).to_contain_text("Serving", timeout=10000)


def test_page_finds_a_node_again_that_was_stopped_and_started(
    page: Page, node: NodeProcess, home: Path, engine_dir: Path
) -> None:
    node.process.terminate()
    node.wait_exit()
    expect(page.locator("#connection")).to_contain_text("econnecting", timeout=8000)
    with NodeProcess(home, "--console", str(node.console_port), engine=engine_dir):
        expect(page.locator("#connection")).to_have_text("Live", timeout=30000)
        expect(page.locator("#serving .model-name")).to_have_text("mesh-demo", timeout=10000)


def test_operator_link_opens_the_session_once(page: Page, node: NodeProcess) -> None:
    assert "token" not in node.get("/api/status", node.console)[1]
    link = node.operator_link
    page.goto(link)
    expect(page.locator("body")).to_have_attribute("data-operator", "yes")
    assert "/operator/" not in page.url
    fresh = page.context.browser.new_page()  # type: ignore[union-attr]
    fresh.goto(link)
    assert fresh.locator("body[data-operator=yes]").count() == 0
    fresh.close()
