"""Every view: by keyboard alone, on a phone, in both themes, after sleep, for operators and viewers."""

from typing import Any

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from nodes.runtime.handle import OperatorResult, Outcome
from tests.e2e.console.conftest import OpenPage
from tests.fakes.console_thread import ConsoleThread
from tests.fakes.node_handle import model_entry

pytestmark = pytest.mark.browser

VIEWS = ["mesh", "models", "chat", "requests", "add", "use"]


def _focused(page: Page) -> str:
    found: str = page.evaluate(
        """() => {
          const at = document.activeElement;
          return at.id || at.dataset.viewLink || at.textContent.trim();
        }"""
    )
    return found


def _tab_to(page: Page, wanted: str, most: int = 60) -> None:
    for _ in range(most):
        page.keyboard.press("Tab")
        if _focused(page) == wanted:
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            border = page.evaluate("document.activeElement.matches('textarea')")
            assert outline != "none" or border, f"{wanted} has the focus and does not show it"
            return
    pytest.fail(f"{wanted} is not reached by Tab")


def test_the_keyboard_alone_reaches_and_uses_everything(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page(operator=True)
    page.keyboard.press("Tab")
    assert _focused(page) == "Skip to content"
    page.keyboard.press("Enter")
    assert _focused(page) == "main"
    page.keyboard.press("Shift+Tab")
    page.evaluate("document.activeElement.blur(); getSelection().removeAllRanges()")
    page.goto(f"{console.url}/")
    page.wait_for_selector("body[data-phase=live]")
    _tab_to(page, "models")
    page.keyboard.press("Enter")
    expect(page.locator("#view-models")).to_be_visible()
    assert _focused(page) == "main"
    _tab_to(page, "Restart engine")
    page.keyboard.press("Enter")
    expect(page.locator("#confirm")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#confirm")).to_be_hidden()
    assert console.node.operator.asked == []
    assert _focused(page) == "Restart engine"
    page.keyboard.press("Enter")
    _tab_to(page, "confirm-yes", 4)
    page.keyboard.press("Enter")
    expect(page.locator(".model-card .outcome")).to_have_text("✓ Done. Done as asked.")
    assert console.node.operator.asked == [("restart", "mesh-demo")]
    page.keyboard.press("Shift+Tab")
    page.goto(f"{console.url}/#chat")
    page.focus("[data-view-link=chat]")
    page.keyboard.press("Enter")
    page.focus("#messages")
    _tab_to(page, "prompt", 8)
    page.keyboard.type("Hello")
    page.keyboard.press("Enter")
    expect(page.locator(".message .prose")).to_have_text("Hello there.")
    assert _focused(page) == "prompt"
    page.keyboard.press("Shift+Tab")
    assert _focused(page) == "Retry"


def test_escape_stops_a_running_answer(console: ConsoleThread, open_page: OpenPage) -> None:
    console.do(lambda node: setattr(node.api, "deltas", [{"content": "word "}] * 500))
    console.do(lambda node: setattr(node.api, "pause_s", 0.02))
    page = open_page("/#chat")
    page.fill("#prompt", "Hi")
    page.keyboard.press("Enter")
    expect(page.locator(".message .prose")).to_contain_text("word")
    page.keyboard.press("Escape")
    expect(page.locator(".message .meta")).to_contain_text("Stopped")
    assert _focused(page) == "prompt"


def test_an_action_asks_first_and_tells_its_true_outcome(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#models", operator=True)
    drop = page.get_by_role("button", name="Stop serving")
    drop.click()
    expect(page.locator("#confirm-title")).to_have_text("Stop serving mesh-demo everywhere?")
    page.get_by_role("button", name="Cancel").click()
    assert console.node.operator.asked == []
    refusal = OperatorResult(False, "It is the last model: add another first.")
    console.do(lambda node: setattr(node.operator, "result", refusal))
    drop.click()
    page.click("#confirm-yes")
    outcome = page.locator(".model-card .outcome")
    expect(outcome).to_have_text("✕ Not done. It is the last model: add another first.")
    refusal = OperatorResult(False, "barn did not confirm it.", outcome=Outcome.UNCONFIRMED)
    console.do(lambda node: setattr(node.operator, "result", refusal))
    drop.click()
    page.click("#confirm-yes")
    expect(outcome).to_have_text("▲ Not confirmed yet. barn did not confirm it.")
    console.do(lambda node: setattr(node.operator, "fault", RuntimeError("inside")))
    drop.click()
    page.click("#confirm-yes")
    expect(outcome).to_contain_text("? Outcome unknown.")
    assert console.node.operator.asked == [("drop", "mesh-demo")] * 3


def test_a_phone_reaches_admin_and_leave_by_the_menu_of_the_top_bar(open_page: OpenPage) -> None:
    page = open_page(operator=True, width=390)
    expect(page.get_by_role("link", name="Admin")).to_be_hidden()
    page.focus("#account-menu summary")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Admin")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Admin")).to_be_hidden()
    page.click("#account-menu summary")
    page.get_by_role("button", name="Leave").click()
    expect(page.locator("body")).to_have_attribute("data-operator", "no")
    page.click("#account-menu summary")
    expect(page.get_by_role("link", name="Log in to act")).to_be_visible()


def test_a_viewer_is_offered_no_action(open_page: OpenPage) -> None:
    page = open_page("/#models")
    expect(page.locator(".model-card")).to_be_visible()
    expect(page.get_by_role("button", name="Stop serving")).to_have_count(0)


def _crowd(node: Any) -> None:
    long = "A-very-long-model-name-of-a-file-that-somebody-downloaded-Q4_K_M-imatrix"
    node.feed.publish(
        {f"model/{long}": model_entry(long, status="cold", state="failed", reason=long * 4)}
    )
    node.feed.publish({"notice/x": {"level": "error", "text": long * 3}})
    node.feed.publish({"node": {**node.feed.state["node"], "name": long}})
    node.logs.lines[long] = node.logs.lines["mesh-demo"] = [long * 10] * 30


@pytest.mark.parametrize("width", [390, 320, 861])
def test_no_view_scrolls_sideways(console: ConsoleThread, open_page: OpenPage, width: int) -> None:
    console.do(_crowd)
    table = "| a | b |\n|---|---|\n| " + "x" * 200 + " | y |\n\n```\n" + "z" * 300 + "\n```"
    console.do(lambda node: setattr(node.api, "deltas", [{"content": table}]))
    page = open_page(operator=True, width=width)
    for view in VIEWS:
        page.click(f"[data-view-link={view}]")
        if view == "models":
            page.click("#log-card summary")
            expect(page.locator("#log div").first).to_be_visible()
        if view == "chat":
            page.fill("#prompt", "w" * 200)
            page.press("#prompt", "Enter")
            expect(page.get_by_role("button", name="Retry")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        hidden = page.evaluate(
            """(width) => [...document.querySelectorAll("button, a, h1, .pill, .tag")].filter((e) => {
            const box = e.getBoundingClientRect();
            return box.width && !e.closest(".skip, pre, .messages, .log") && box.right > width + 1;
            }).map((e) => e.outerHTML)""",
            width,
        )
        assert hidden == [], view
    for path in ("/login", "/operator/none", "/nothing"):
        page.goto(console.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_the_pills_of_the_top_bar_do_not_overlap(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    console.do(_crowd)
    for width in (320, 390, 861, 1440):
        page = open_page(width=width)
        overlaps = page.evaluate(
            """() => {
              const parts = ".top-node, .top-end > *, .top .brand";
              const boxes = [...document.querySelectorAll(parts)]
                .map((e) => [e.id || e.className, e.getBoundingClientRect()])
                .filter(([, box]) => box.width);
              const meet = (x, y) => x.right > y.left + 1 && y.right > x.left + 1;
              return boxes.flatMap(([a, x], i) => boxes.slice(i + 1)
                .filter(([, y]) => meet(x, y)).map(([b]) => `${a} over ${b}`));
            }"""
        )
        assert overlaps == [], width


def test_the_theme_is_chosen_and_remembered(open_page: OpenPage) -> None:
    page = open_page(color_scheme="dark")
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(colour)
    page.click("#theme")
    expect(page.locator("#theme")).to_have_attribute("aria-label", "Colour theme: light")
    light = page.evaluate(colour)
    assert light != dark
    page.reload()
    page.wait_for_selector("body[data-phase=live]")
    assert page.evaluate(colour) == light
    page.click("#theme")
    assert page.evaluate(colour) == dark
    page.click("#theme")
    expect(page.locator("#theme")).to_have_attribute("aria-label", "Colour theme: as the system")
    assert page.evaluate(colour) == dark


def test_a_tab_that_slept_is_right_again(console: ConsoleThread, open_page: OpenPage) -> None:
    """The socket is dead and nobody said so: what a laptop's lid leaves behind."""
    page = open_page("/login")
    sockets: list[dict[str, bool]] = []

    def carry(route: WebSocketRoute) -> None:
        state = {"dead": False}
        sockets.append(state)
        server = route.connect_to_server()
        route.on_message(lambda text: None if state["dead"] else server.send(text))
        server.on_message(lambda text: None if state["dead"] else route.send(text))
        server.on_close(lambda code, reason: None)

    page.route_web_socket("**/ws/topology", carry)
    page.goto(console.url)
    page.wait_for_selector("body[data-phase=live]")
    sockets[0]["dead"] = True
    console.do(lambda node: node.feed.publish({"model/new": model_entry("new")}))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#serving .model-name", has_text="new")).to_be_visible()
    expect(page.locator("#connection")).to_have_text("Live")
    assert len(sockets) == 2


def test_the_list_of_chats_on_a_phone_opens_and_goes_again(open_page: OpenPage) -> None:
    page = open_page("/#chat", width=390)
    pane = page.locator("#conversations-pane")
    expect(pane).to_be_hidden()
    page.click("#conversations-toggle")
    expect(pane).to_be_visible()
    page.mouse.click(380, 400)
    expect(pane).to_be_hidden()
    page.click("#conversations-toggle")
    page.keyboard.press("Escape")
    expect(pane).to_be_hidden()
    assert _focused(page) == "conversations-toggle"
    expect(page.locator("#conversations-toggle")).to_have_attribute("aria-expanded", "false")


def test_a_title_keeps_its_room_beside_the_picker_on_a_phone(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    console.do(lambda node: node.feed.publish({"model/zed-of-a-long-name": model_entry("zed")}))
    page = open_page("/#chat", width=390)
    page.fill("#prompt", "A question of some length")
    page.press("#prompt", "Enter")
    title = page.locator("#chat-title")
    expect(title).to_have_text("A question of some length")
    assert page.evaluate("(e) => e.scrollWidth <= e.clientWidth + 1", title.element_handle())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
