"""Nothing that a model, a peer, a file or a kept conversation says can become markup that acts."""

import json
import time
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.console.conftest import OpenPage
from tests.fakes.console_thread import ConsoleThread
from tests.fakes.node_handle import ScriptedNode, model_entry

pytestmark = pytest.mark.browser

HOSTILE = '"><img src=x onerror="window.hurt=1"><svg onload="window.hurt=1"></svg>\u202e\x00'
ANSWERS = [
    "<script>window.hurt=1</script><img src=x onerror=window.hurt=1>",
    "<svg><animate onbegin=window.hurt=1 attributeName=x dur=1s></svg>",
    "[click](javascript:window.hurt=1) [data](data:text/html,<script>parent.hurt=1</script>)",
    '![p](https://evil.invalid/pixel.png) ![p](x" onerror="window.hurt=1)',
    '```html" onclick="window.hurt=1\n<img src=x onerror=window.hurt=1>\n```',
    "<style>body{display:none}</style><iframe src=javascript:parent.hurt=1></iframe>",
    "<form action=https://evil.invalid><button>go</button></form><base href=//evil.invalid>",
    '| a |\n|---|\n| <img src=x onerror=window.hurt=1> |\n\n<https://ok.example/"onclick=x>',
]


def _unhurt(page: Page) -> None:
    assert page.evaluate("window.hurt") is None
    inside = page.evaluate(
        """() => [...document.querySelectorAll(".prose *, .log *, .timeline *, .card *")].filter((e) =>
        (["IMG", "SCRIPT", "IFRAME", "STYLE", "FORM", "BASE", "OBJECT"].includes(e.tagName)
          && !["join-form", "serve"].includes(e.id))
        || [...e.attributes].some((a) => a.name.startsWith("on"))
        || /^(javascript|data|vbscript):/i.test(e.getAttribute("href") ?? "")).map((e) => e.outerHTML)"""
    )
    assert inside == []


def _answer_with(pieces: list[dict[str, Any]], node: ScriptedNode) -> None:
    node.api.deltas = pieces


def _ask(page: Page, text: str) -> None:
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator(".message.assistant").last.get_by_text("Retry")).to_be_visible()


def test_an_answer_cannot_act_while_it_streams_or_after_a_reload(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#chat")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for answer in ANSWERS:
        pieces: list[dict[str, Any]] = [{"reasoning_content": answer}]
        pieces += [{"content": answer[at : at + 7]} for at in range(0, len(answer), 7)]
        console.do(partial(_answer_with, pieces))
        _ask(page, HOSTILE)
        _unhurt(page)
    for link in page.locator(".prose a").all():
        link.click(button="right")
        assert link.get_attribute("rel") == "noopener noreferrer"
    page.reload()
    page.wait_for_selector("body[data-phase=live]")
    expect(page.locator(".message.assistant")).to_have_count(len(ANSWERS))
    expect(page.locator(".prose .code").first).to_be_visible()
    _unhurt(page)
    assert not [url for url in asked if "evil" in url]


def test_a_forged_history_in_the_browser_cannot_act_or_break_the_page(open_page: OpenPage) -> None:
    page = open_page("/#chat")
    forged: list[Any] = [
        {"id": "a", "title": HOSTILE, "messages": [
            {"role": "user", "content": HOSTILE},
            {"role": "assistant", "content": ANSWERS[0], "reasoning": HOSTILE, "model": HOSTILE,
             "node": HOSTILE, "tokens_per_s": "x", "error": HOSTILE},
            None, "text", {"role": "assistant"},
        ]},
        {"id": "b", "messages": "none"}, None, 7,
    ]  # fmt: skip
    page.evaluate("text => localStorage.setItem('mesh-conversations', text)", json.dumps(forged))
    page.reload()
    page.wait_for_selector("body[data-phase=live]")
    expect(page.locator(".message.user .bubble")).to_contain_text("<img src=x")
    _unhurt(page)
    _ask(page, "Still working?")
    expect(page.locator(".message.assistant .prose").last).to_have_text("Hello there.")


def test_names_reasons_notices_and_log_lines_stay_text(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page(operator=True)
    hostile_model = model_entry(
        HOSTILE, title=HOSTILE, reason=HOSTILE, phase=HOSTILE, status="loading",
        architecture=HOSTILE, capabilities=[HOSTILE], draft=HOSTILE,
    )  # fmt: skip

    def publish(node: Any) -> None:
        node.logs.lines[HOSTILE] = [f"\x1b[31m{HOSTILE}", "</div><script>window.hurt=1</script>"]
        node.feed.publish({f"model/{HOSTILE}": hostile_model})
        node.feed.publish({"notice/x": {"level": "error", "text": HOSTILE}})
        me = {**node.feed.state["node"], "name": HOSTILE, "role": HOSTILE, "state": HOSTILE}
        node.feed.publish({"node": me, "peer/x": {"id": HOSTILE, "name": HOSTILE}})
        node.feed.record({"at": time.time(), "level": HOSTILE, "text": HOSTILE, "kind": HOSTILE})

    console.do(publish)
    expect(page.locator("#timeline")).to_contain_text("<img src=x")
    expect(page.locator("#notices")).to_contain_text("<img src=x")
    page.click("[data-view-link=models]")
    page.click("#log-card summary")
    page.select_option("#log-model", index=0)
    expect(page.locator("#log")).to_contain_text("</div><script>")
    _unhurt(page)
    page.locator(".model-card", has_text="<img").get_by_text("Stop serving").click()
    expect(page.locator("#confirm-title")).to_contain_text("<img src=x")
    page.click("#confirm-yes")
    outcome = page.locator(".model-card", has_text="<img").locator(".outcome")
    expect(outcome).to_contain_text("Done as asked.")
    page.goto(f"{console.url}/#use")
    expect(page.locator("#snippets")).to_contain_text("mesh-demo")
    _unhurt(page)
