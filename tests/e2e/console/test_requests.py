"""The requests view: charts that can be read, a live list, and what became of each."""

import pytest
from playwright.sync_api import expect

from nodes import requests_view
from tests.e2e.console.conftest import OpenPage
from tests.fakes import traffic
from tests.fakes.console_thread import ConsoleThread
from tests.fakes.scenes import SCENES, peer_id

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def busy(console: ConsoleThread) -> None:
    requests_view._last.clear()
    console.do(lambda node: SCENES["split"]().play(node))
    console.do(traffic.play)


def test_a_request_tells_its_path_its_machine_and_its_retries(open_page: OpenPage) -> None:
    page = open_page("/#requests")
    row = page.locator("#request-table tbody", has_text="llama-3.3-70b")
    expect(row).to_contain_text("hall")
    row.get_by_role("button").click()
    expect(row.locator(".request-more")).to_contain_text("barn closed the stream (12 ms).")
    expect(row.get_by_role("button")).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Enter")
    expect(row.locator(".request-more")).to_be_hidden()


def test_the_list_is_live_can_be_held_and_narrowed(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#requests")
    rows = page.locator("#request-table tbody")
    expect(rows).to_have_count(29)
    console.do(lambda node: node.requests.insert(0, traffic.document(99, model="newest-model")))
    expect(rows.first).to_contain_text("newest-model")
    page.check("#requests-failed")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("gpt-5")
    page.uncheck("#requests-failed")
    page.fill("#requests-filter", "hall")
    expect(rows).to_have_count(1)
    page.fill("#requests-filter", "nothing like it")
    expect(page.locator("#requests-empty")).to_have_text("No request matches.")
    page.fill("#requests-filter", "")
    page.check("#requests-pause")
    console.do(lambda node: node.requests.insert(0, traffic.document(100, model="later-model")))
    page.wait_for_timeout(2500)
    expect(page.locator("#request-table")).not_to_contain_text("later-model")
    page.uncheck("#requests-pause")
    expect(rows.first).to_contain_text("later-model")


def test_charts_have_a_line_for_each_model_or_machine_and_are_read_off(open_page: OpenPage) -> None:
    page = open_page("/#requests")
    chart = page.locator("#chart-requests")
    expect(chart.locator(".legend li")).to_have_text(["qwen3-8b", "llama-3.3-70b", "gemma-3-27b"])
    dashes = chart.locator("path.series").evaluate_all(
        "lines => lines.map((line) => getComputedStyle(line).strokeDasharray)"
    )
    assert len(set(dashes)) == 3, "told apart by more than colour"
    page.select_option("#requests-by", "nodes")
    expect(chart.locator(".legend li")).to_have_text(["study", "barn", "elm"])
    chart.locator("> svg").focus()
    page.keyboard.press("ArrowLeft")
    expect(chart.locator("[role=status]")).to_contain_text("study")
    expect(chart.locator("[role=status]")).to_contain_text("per minute")
    expect(page.locator("#chart-ttfb .legend li")).to_have_count(2)
    page.select_option("#ttfb-of", peer_id(1))
    page.select_option("#requests-span", "1440")
    expect(chart.locator(".legend li")).to_have_count(3)
    assert "now" in (chart.locator("> svg").get_attribute("aria-label") or "")


def test_an_empty_list_says_what_to_do(console: ConsoleThread, open_page: OpenPage) -> None:
    console.do(lambda node: node.requests.clear())
    page = open_page("/#requests")
    expect(page.locator("#requests-empty")).to_contain_text("Nobody has asked anything yet")


def test_hostile_words_in_requests_stay_text(console: ConsoleThread, open_page: OpenPage) -> None:
    evil = '"><img src=x onerror="window.hurt=1">'
    told = traffic.document(
        7, model=evil, path=evil, node_name=evil, id=evil, text=[evil], outcome=evil
    )
    console.do(lambda node: node.requests.insert(0, told))
    console.do(lambda node: node.series.add(traffic.record(model=evil, node=evil), 1e12))
    page = open_page("/#requests")
    row = page.locator("#request-table tbody").first
    expect(row).to_contain_text("<img src=x")
    row.get_by_role("button").click()
    expect(row.locator(".request-more")).to_contain_text("<img src=x")
    assert page.evaluate("window.hurt") is None
    assert page.locator("#view-requests img").count() == 0
