"""The console of a scripted node in a real Chromium; every page is watched for refusals and faults."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from nodes.access import new_operator_link
from tests.e2e.browser import chromium
from tests.fakes.console_thread import ConsoleThread
from tests.fakes.node_handle import serving_state

OpenPage = Callable[..., Page]

WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`);
  console.error(`Content Security Policy violated: ${event.violatedDirective} ${event.blockedURI}`);
});
"""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="package")
def served() -> Iterator[ConsoleThread]:
    made = ConsoleThread()
    yield made
    made.end()


@pytest.fixture
def console(served: ConsoleThread) -> ConsoleThread:
    """Return the console with a fresh node that serves one model."""
    served.restart_node()
    served.do(lambda node: node.feed.publish(serving_state()))
    return served


@pytest.fixture
def faults() -> list[str]:
    """Return what the pages complained of: refusals of the policy and uncaught errors.

    A test that provokes one clears the list.
    """
    return []


@pytest.fixture
def open_page(console: ConsoleThread, browser: Browser, faults: list[str]) -> Iterator[OpenPage]:
    """Return how to open a page of the console in a browser profile of its own."""
    contexts = []

    def note(message: Any) -> None:
        if "Content Security Policy" in message.text or "TrustedHTML" in message.text:
            faults.append(message.text)

    def open_one(
        path: str = "/", *, operator: bool = False, width: int = 1440, **options: Any
    ) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 844}, **options)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=console.url)
        context.add_init_script(WATCH)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", note)
        page.on("pageerror", lambda error: faults.append(str(error)))
        if operator:
            page.goto(new_operator_link(console.url))
            page.wait_for_url(f"{console.url}/")
        page.goto(console.url + path)
        if path.split("#")[0] in ("/", ""):
            page.wait_for_selector("body[data-phase=live]")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not faults
