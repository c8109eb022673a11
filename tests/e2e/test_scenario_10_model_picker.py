"""Scenario 10 with real engines in a real Chromium: two machines, two models, one picker; on a client too."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from models_registry.demo import demo_path
from tests.e2e.browser import chromium
from tests.e2e.mesh_processes import MeshProcesses
from tests.e2e.node_process import NodeProcess, free_port

pytestmark = [
    pytest.mark.browser, pytest.mark.engine, pytest.mark.e2e, pytest.mark.slow,
    pytest.mark.timeout(240),
]  # fmt: skip

SOON_MS = 15_000
"""A change of one machine is seen on every console; a client hears of it within ten seconds."""
ANSWER_MS = 30_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def chat_of(browser: Browser, node: NodeProcess) -> Page:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{node.console}/#chat")
    page.wait_for_selector("body[data-phase=live]")
    return page


def start(made: MeshProcesses, name: str, *args: str, join: str | None = None) -> NodeProcess:
    return made.start(name, *args, "--console", str(free_port()), join=join, until="ready")


def choose_and_ask(page: Page, model: str, on: str, called: str) -> None:
    """Choose a model; `on` is to be highlighted and, as the page calls it, to have answered."""
    page.click("[data-view-link=chat]")
    page.click("#chat-new")  # what one model said at length need not fit the other's context
    page.select_option("#model", model)
    expect(page.locator("#mini-mesh .lit .mini-name")).to_have_text([on])
    expect(page.locator("#model-where")).to_have_text(f"answered by {on}")
    page.fill("#prompt", "What is a mesh?")
    page.press("#prompt", "Enter")
    expect(page.locator(".message.assistant")).to_have_count(1)
    meta = page.locator(".message.assistant .meta")
    expect(meta).to_contain_text(f"answered by {called}", timeout=ANSWER_MS)
    expect(page.locator(".message.assistant .prose")).to_contain_text(re.compile(r"\w"))
    expect(page.locator(".message.assistant .who")).to_have_text(model)
    page.click("[data-view-link=mesh]")
    expect(page.locator(".node.lit .node-title")).to_have_text([on])


def test_scenario_10_picker_comes_with_the_second_model_and_chat_goes_to_the_chosen_ones_machine(
    made: MeshProcesses, models_dir: Path, browser: Browser
) -> None:
    a = start(made, "box-a", "--model", str(demo_path()))
    page = chat_of(browser, a)
    expect(page.locator("#model-name")).to_have_text("mesh-demo")
    expect(page.locator("#model-picker")).to_be_hidden()

    token = made.token("box-a")
    b = start(made, "box-b", "--model", str(models_dir / "draft.gguf"), join=token)
    client = start(made, "lite", "--client", join=token)
    views = {"box-a": page, "box-b": chat_of(browser, b), "lite": chat_of(browser, client)}
    for name, view in views.items():
        expect(view.locator("#model-picker")).to_be_visible(timeout=SOON_MS)
        expect(view.locator("#model option")).to_have_text(["draft", "mesh-demo"])
        for model, host in (("draft", "box-b"), ("mesh-demo", "box-a")):
            choose_and_ask(view, model, host, f"{host} (this node)" if name == host else host)

    b.process.terminate()
    b.wait_exit()
    for name in ("box-a", "lite"):
        views[name].click("[data-view-link=chat]")
        expect(views[name].locator("#model-picker")).to_be_hidden(timeout=SOON_MS)
        expect(views[name].locator("#model-name")).to_have_text("mesh-demo")
