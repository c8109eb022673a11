"""The chat: reasoning apart, copying, retrying, several kept conversations, which model."""

import base64
import json
from typing import Any

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.e2e.console.conftest import OpenPage
from tests.fakes.console_thread import ConsoleThread
from tests.fakes.node_handle import model_entry
from tests.fakes.scenes import SCENES

pytestmark = pytest.mark.browser


def _answers(console: ConsoleThread, *deltas: dict[str, Any]) -> None:
    console.do(lambda node: setattr(node.api, "deltas", list(deltas)))


def _ask(page: Page, text: str) -> None:
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")
    expect(page.locator(".message.assistant").last.get_by_text("Retry")).to_be_visible()


def test_reasoning_is_shown_apart_and_never_sent_back(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    _answers(
        console,
        {"reasoning_content": "Let me "},
        {"reasoning_content": "think."},
        {"content": "Yes."},
    )
    page = open_page("/#chat")
    _ask(page, "Well?")
    reasoning = page.locator(".reasoning")
    expect(reasoning.locator("summary")).to_contain_text("Thought for")
    expect(reasoning.get_by_text("Let me think.")).to_be_hidden()
    reasoning.locator("summary").click()
    expect(reasoning.get_by_text("Let me think.")).to_be_visible()
    expect(page.locator(".prose")).to_have_text("Yes.")
    _ask(page, "Sure?")
    assert console.node.api.bodies[-1]["messages"] == [
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Sure?"},
    ]


def test_an_answer_and_its_code_can_be_copied(console: ConsoleThread, open_page: OpenPage) -> None:
    code = "for n in range(3):\n    print(n)\n"
    text = f"Run **this**:\n\n```python\n{code}```\n\nDone."
    _answers(console, {"content": text})
    page = open_page("/#chat")
    _ask(page, "Code?")
    page.get_by_role("button", name="Copy code").click()
    expect(page.get_by_role("button", name="Copy code")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == code
    page.get_by_role("button", name="Copy answer").click()
    page.wait_for_function(
        "text => navigator.clipboard.readText().then((t) => t === text)", arg=text
    )


def test_a_snippet_can_be_copied_with_the_nodes_address(open_page: OpenPage) -> None:
    page = open_page("/#use")
    page.get_by_role("button", name="Copy: curl").click()
    page.wait_for_function(
        "navigator.clipboard.readText().then((t) => t.includes('127.0.0.1:9337/v1'))"
    )
    assert "mesh-demo" in page.evaluate("navigator.clipboard.readText()")


def test_retry_asks_the_same_again_in_place_of_the_answer(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#chat")
    console.do(lambda node: setattr(node.api, "refusal", (503, {"message": "It still loads."})))
    page.fill("#prompt", "Hi")
    page.press("#prompt", "Enter")
    expect(page.get_by_role("alert")).to_have_text("It still loads.")
    console.do(lambda node: setattr(node.api, "refusal", None))
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".message .prose")).to_have_text("Hello there.")
    expect(page.locator(".message.assistant")).to_have_count(1)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert console.node.api.bodies[-1]["messages"] == [{"role": "user", "content": "Hi"}]


def test_an_answer_that_breaks_off_says_so_and_keeps_what_came(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    console.do(lambda node: setattr(node.api, "breaks_off", True))
    page = open_page("/#chat")
    _ask(page, "Hi")
    expect(page.get_by_role("alert")).to_contain_text("broke off")
    expect(page.locator(".message .prose")).to_have_text("Hello there.")


def test_several_conversations_are_kept_over_a_reload(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#chat")
    _ask(page, "First question")
    page.click("#chat-new")
    _ask(page, "Second question")
    page.click("#chat-more summary")
    page.click("#chat-rename")
    page.get_by_label("Name of this chat").fill("Renamed")
    page.keyboard.press("Enter")
    page.reload()
    page.wait_for_selector("body[data-phase=live]")
    expect(page.locator("#conversations button")).to_have_text(["Renamed", "First question"])
    page.locator("#conversations button", has_text="First").click()
    expect(page.locator(".bubble")).to_have_text(["First question"])
    expect(page.locator("#chat-title")).to_have_text("First question")
    page.click("#chat-more summary")
    page.click("#chat-delete")
    page.click("#confirm-yes")
    expect(page.locator("#conversations button")).to_have_text(["Renamed"])
    page.reload()
    expect(page.locator("#conversations button")).to_have_text(["Renamed"])


def test_kept_conversations_are_bounded_and_the_oldest_go(open_page: OpenPage) -> None:
    page = open_page("/#chat")
    many = [
        {
            "id": f"c{n}",
            "title": f"old {n}",
            "messages": [{"role": "user", "content": "x" * 100}] * 300,
        }
        for n in range(60)
    ]
    page.evaluate("text => localStorage.setItem('mesh-conversations', text)", json.dumps(many))
    page.reload()
    page.wait_for_selector("body[data-phase=live]")
    page.click("#chat-new")
    _ask(page, "Newest")
    kept = page.evaluate("JSON.parse(localStorage.getItem('mesh-conversations'))")
    assert len(kept) == 40
    assert kept[0]["messages"][0]["content"] == "Newest"
    assert max(len(item["messages"]) for item in kept) == 200
    big = [
        {"id": f"b{n}", "title": "", "messages": [{"role": "user", "content": "y" * 400_000}]}
        for n in range(12)
    ]
    page.evaluate("text => localStorage.setItem('mesh-conversations', text)", json.dumps(big))
    page.reload()
    page.wait_for_selector("body[data-phase=live]")
    page.click("#chat-new")
    _ask(page, "Newest again")
    assert page.evaluate("localStorage.getItem('mesh-conversations').length") <= 4_000_000


def test_the_picker_appears_with_the_second_warm_model_and_chooses(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#chat")
    expect(page.locator("#model-picker")).to_be_hidden()
    console.do(lambda node: node.feed.publish({"model/zed": model_entry("zed", status="loading")}))
    expect(page.locator("#model-picker")).to_be_hidden()
    console.do(lambda node: node.feed.publish({"model/zed": model_entry("zed")}))
    expect(page.locator("#model-picker")).to_be_visible()
    page.select_option("#model", "zed")
    _ask(page, "Hi")
    assert console.node.api.bodies[-1]["model"] == "zed"
    expect(page.locator(".message .who")).to_have_text("zed")
    console.do(lambda node: node.feed.publish({}, ("model/zed",)))
    expect(page.locator("#model-picker")).to_be_hidden()
    _ask(page, "And now?")
    assert console.node.api.bodies[-1]["model"] == "mesh-demo"


def test_choosing_a_model_highlights_who_serves_it_here_and_in_the_drawing(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    """Scenario 10."""
    console.do(lambda node: SCENES["three"]().play(node))
    page = open_page("/#chat")
    page.select_option("#model", "llama-3.3-70b")
    expect(page.locator("#mini-mesh .lit")).to_have_text(["●barnanswers"])
    page.select_option("#model", "qwen3-8b")
    expect(page.locator("#mini-mesh .lit")).to_have_text(["●studyanswers"])
    expect(page.locator("#model-where")).to_have_text("answered by study")
    page.click("[data-view-link=mesh]")
    expect(page.locator(".node.lit")).to_have_count(1)
    expect(page.locator(".node.lit .node-title")).to_have_text("study")
    expect(page.locator("#lit-text")).to_have_text("Highlighted: who answers qwen3-8b")


def test_a_message_is_edited_and_asked_again_and_what_followed_goes(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#chat")
    _ask(page, "First")
    _ask(page, "Second")
    page.locator(".bubble", has_text="First").hover()
    page.get_by_role("button", name="Edit this message").first.click()
    page.get_by_label("Your message").fill("First, otherwise")
    page.get_by_role("button", name="Ask again", exact=True).click()
    expect(page.locator(".message.assistant")).to_have_count(1)
    expect(page.locator(".bubble")).to_have_text(["First, otherwise"])
    expect(page.locator(".message.assistant").last.get_by_text("Retry")).to_be_visible()
    assert console.node.api.bodies[-1]["messages"] == [
        {"role": "user", "content": "First, otherwise"}
    ]
    page.get_by_role("button", name="Edit this message").first.click()
    page.keyboard.press("Escape")
    expect(page.locator(".bubble")).to_have_text(["First, otherwise"])


def test_system_prompt_and_sampling_are_sent_and_kept_with_the_chat(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#chat")
    page.click("#settings-toggle")
    page.fill("#set-system", "Be brief.")
    page.fill("#set-temperature", "0.2")
    page.fill("#set-max-tokens", "64")
    page.keyboard.press("Escape")
    expect(page.locator("#chat-settings")).to_be_hidden()
    expect(page.locator("#settings-toggle")).to_have_text("Settings (3 set)")
    _ask(page, "Hi")
    body = console.node.api.bodies[-1]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["temperature"], body["max_tokens"]) == (0.2, 64)
    assert "top_p" not in body
    page.reload()
    expect(page.locator("#settings-toggle")).to_have_text("Settings (3 set)")
    page.click("#chat-new")
    expect(page.locator("#settings-toggle")).to_have_text("Settings")
    _ask(page, "Hi")
    assert [m["role"] for m in console.node.api.bodies[-1]["messages"]] == ["user"]


PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_pictures_go_to_models_that_see_and_only_to_those(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#chat")
    expect(page.locator("#attach")).to_be_hidden()
    entry = model_entry("mesh-demo", capabilities=["vision"])
    console.do(lambda node: node.feed.publish({"model/mesh-demo": entry}))
    expect(page.locator("#attach")).to_be_visible()
    picture: FilePayload = {"name": "a.png", "mimeType": "image/png", "buffer": PIXEL}
    page.set_input_files("#attach-file", picture)
    expect(page.locator("#attached img")).to_have_count(1)
    _ask(page, "What is this?")
    parts = console.node.api.bodies[-1]["messages"][0]["content"]
    assert parts[0] == {"type": "text", "text": "What is this?"}
    assert parts[1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    expect(page.locator(".sent-image")).to_be_visible()
    page.reload()
    expect(page.locator(".sent-image")).to_be_visible()
    picture = {"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.set_input_files("#attach-file", picture)
    expect(page.locator("#toasts")).to_contain_text("x.png is no picture")


def test_a_chat_leaves_as_markdown_and_as_json(open_page: OpenPage) -> None:
    page = open_page("/#chat")
    _ask(page, "What is a mesh?")
    for form, said in (("md", "## You\n\nWhat is a mesh?"), ("json", '"role": "user"')):
        page.click("#chat-more summary")
        with page.expect_download() as waiting:
            page.click(f"#export-{form}")
        assert waiting.value.suggested_filename == f"What is a mesh.{form}"
        assert said in waiting.value.path().read_text("utf-8")


def test_a_lost_node_is_explained_in_place_and_retried(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#chat")
    page.context.set_offline(True)
    page.fill("#prompt", "Hi")
    page.press("#prompt", "Enter")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.context.set_offline(False)
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".message .prose")).to_have_text("Hello there.")
    console.close()
    try:
        expect(page.locator("#composer-note")).to_contain_text("connection to the node is lost")
    finally:
        console.open()
    expect(page.locator("#composer-note")).to_contain_text("Enter sends", timeout=20_000)
