"""The mesh view: who stands where, what is said of each machine, what may be done, 1 to 100 of them."""

import random
import time
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from benchmarks.console.page import traced
from nodes.runtime.handle import OperatorResult, Outcome
from tests.e2e.console.conftest import OpenPage
from tests.fakes.console_thread import ConsoleThread
from tests.fakes.node_handle import NODE_ID, ScriptedNode
from tests.fakes.scenes import SCENES, event, peer_entry, peer_id

pytestmark = pytest.mark.browser


def _play(console: ConsoleThread, scene: str) -> None:
    console.do(lambda node: SCENES[scene]().play(node))


def _box(page: Page, name: str) -> Locator:
    return page.locator(".node", has=page.locator(".node-title", has_text=name))


def _top(page: Page, name: str) -> float:
    box = _box(page, name).bounding_box()
    assert box
    return box["y"]


def _still(page: Page) -> None:
    page.wait_for_timeout(500)


def test_a_split_is_drawn_host_on_top_with_shares_round_trips_and_lanes(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    _play(console, "split")
    page = open_page()
    _still(page)
    assert _top(page, "study") < _top(page, "barn") == _top(page, "cellar")
    assert _top(page, "barn") < _top(page, "hall") == _top(page, "elm")
    expect(page.locator(".tier-labels")).to_contain_text("Split: qwen3-235b")
    words = page.locator(".link-words text").all_text_contents()
    assert "31\u00a0% · 0.6\u00a0ms · TCP lane" in words
    assert "22\u00a0% · 1.2\u00a0ms · QUIC" in words
    study = _box(page, "study")
    for said in ("you", "Serving", "Host", "47", "qwen3-235b", "66.0", "72.0", "v0.1.0"):
        expect(study).to_contain_text(said)
    expect(_box(page, "juniper")).to_contain_text("Asks to join")
    assert page.locator(".link.split.quic").count() == 1


def test_a_machine_that_dies_says_so_within_two_seconds(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    _play(console, "three")
    page = open_page()
    expect(_box(page, "barn")).to_contain_text("Alive")
    began = time.monotonic()
    _play(console, "dead")
    expect(_box(page, "barn")).to_contain_text("Dead")
    expect(page.locator("#timeline")).to_contain_text("barn is dead")
    assert time.monotonic() - began <= 2
    sign = _box(page, "barn").locator(".sign").inner_text()
    style = _box(page, "barn").evaluate("e => getComputedStyle(e).borderStyle")
    assert (sign, style) == ("✕", "dotted"), "told by more than colour"
    expect(page.locator("#fig-machines-note")).to_have_text("· 1 gone")
    expect(page.locator("#serving")).to_contain_text("need 47.0 GB")


def test_a_table_takes_over_where_the_drawing_would_not_serve(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    _play(console, "twelve")
    page = open_page()
    expect(page.locator(".node:not(.ghost)")).to_have_count(12)
    expect(page.locator("#machine-table")).to_be_hidden()
    _play(console, "hundred")
    expect(page.locator("#machine-rows tr")).to_have_count(100)
    expect(page.locator("#topology")).to_be_hidden()
    page.fill("#machine-filter", "suspect")
    expect(page.locator("#machine-rows tr").first).to_contain_text("Suspect")
    assert page.locator("#machine-rows tr").count() < 20
    page.fill("#machine-filter", "nothing of the kind")
    expect(page.locator("#machine-none")).to_be_visible()
    page.fill("#machine-filter", "")
    page.get_by_role("button", name="Memory").click()
    expect(page.locator("#machine-rows tr").first).to_contain_text("of 96.0")
    page.get_by_role("button", name="Memory").click()
    expect(page.locator("th[aria-sort=descending]")).to_have_count(1)
    page.click("#show-drawing")
    expect(page.locator(".node")).to_have_count(100)
    page.reload()
    expect(page.locator(".node")).to_have_count(100)


def test_a_machine_that_is_clicked_tells_all_that_is_known_and_its_story(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    _play(console, "split")
    page = open_page()
    panel = page.locator("#panel")
    expect(panel).to_contain_text("this node")
    _box(page, "cellar").click()
    for said in (
        "cellar",
        "Worker",
        "30.8",
        "22\u00a0% of qwen3-235b, 20 layers, for study by QUIC",
    ):
        expect(panel).to_contain_text(said)
    expect(panel.locator("#panel-id")).to_have_text(peer_id(2))
    expect(panel.locator("#panel-story")).to_contain_text("cellar joined.")
    expect(panel.locator("#panel-story")).not_to_contain_text("barn joined.")
    console.do(lambda node: node.feed.record(event("cellar sneezed.", 0, node=peer_id(2))))
    expect(panel.locator("#panel-story li").first).to_contain_text("cellar sneezed.")


def test_actions_ask_first_and_the_panel_keeps_the_true_outcome(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    _play(console, "dead")
    page = open_page(operator=True)
    _box(page, "barn").click()
    page.get_by_role("button", name="Forget").click()
    expect(page.locator("#confirm-title")).to_have_text("Forget barn?")
    page.get_by_role("button", name="Cancel").click()
    assert console.node.operator.asked == []
    refusal = OperatorResult(False, "barn came back a moment ago.")
    console.do(lambda node: setattr(node.operator, "result", refusal))
    page.get_by_role("button", name="Forget").click()
    page.click("#confirm-yes")
    expect(page.locator("#panel-outcome")).to_have_text("✕ Not done. barn came back a moment ago.")
    assert console.node.operator.asked == [("forget", peer_id(1))]
    _box(page, "cellar").click()
    expect(page.locator("#panel-outcome")).to_be_hidden()
    for name, action in (("Drain", "drain"), ("Revoke", "revoke"), ("Block", "block")):
        page.locator("#panel").get_by_role("button", name=name, exact=True).click()
        expect(page.locator("#confirm-title")).to_have_text(f"{name} cellar?")
        told = OperatorResult(True, f"The word was {action}.", outcome=Outcome.BEGUN)
        console.do(partial(_will_say, told))
        page.click("#confirm-yes")
        expect(page.locator("#panel-outcome")).to_have_text(f"◐ Under way. The word was {action}.")
        assert console.node.operator.asked[-1] == (action, peer_id(2))


def test_a_drained_machine_says_so_and_can_serve_again(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    _play(console, "three")
    page = open_page(operator=True)
    drained = peer_entry(1, role="drained", vram_gb=0.0)
    console.do(lambda node: node.feed.publish({f"peer/{peer_id(1)}": drained}))
    expect(_box(page, "barn")).to_contain_text("Draining")
    idle = {"hosts": [], "nodes": [], "node_count": 0, "status": "cold", "state": "elsewhere"}
    console.do(partial(_change, "model/llama-3.3-70b", idle))
    expect(_box(page, "barn")).to_contain_text("Drained")
    expect(page.locator(".tier-labels")).to_contain_text("Drained")
    _box(page, "barn").click()
    expect(page.locator("#panel-sentence")).to_contain_text("until it is undrained")
    page.locator("#panel").get_by_role("button", name="Let it serve again").click()
    page.click("#confirm-yes")
    expect(page.locator("#panel-outcome")).to_have_text("✓ Done. Done as asked.")
    assert console.node.operator.asked == [("undrain", peer_id(1))]


def test_a_viewer_is_told_who_may_act(console: ConsoleThread, open_page: OpenPage) -> None:
    _play(console, "dead")
    page = open_page()
    expect(page.locator("#panel-viewer")).to_be_visible()
    expect(page.locator("#panel-actions")).to_be_hidden()


def test_on_a_phone_a_machine_opens_as_a_sheet_and_escape_leads_back(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    _play(console, "three")
    page = open_page(width=390)
    expect(page.locator("#panel")).to_be_hidden()
    _box(page, "barn").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#panel")).to_be_visible()
    expect(page.locator("#panel")).to_contain_text("barn")
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    assert "barn" in page.evaluate("document.activeElement.textContent")


def test_the_arrow_keys_go_from_machine_to_machine(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    _play(console, "split")
    page = open_page()
    _still(page)
    _box(page, "study").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#panel-name")).to_have_text("cellar")


def test_machines_of_a_model_stand_out_and_stop_standing_out(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    _play(console, "three")
    page = open_page()
    page.get_by_role("button", name="Show where llama-3.3-70b is served").click()
    expect(page.locator(".node.lit")).to_have_count(1)
    expect(page.locator(".node.lit .lit-tag")).to_have_text("answers llama-3.3-70b")
    expect(page.locator(".node.lit")).to_contain_text("barn")
    page.click("#lit-clear")
    expect(page.locator(".node.lit")).to_have_count(0)


@pytest.mark.parametrize("scene", list(SCENES))
def test_every_scene_fits_on_a_phone_and_breaks_nothing(
    console: ConsoleThread, open_page: OpenPage, scene: str
) -> None:
    _play(console, scene)
    page = open_page(operator=True, width=390)
    for view in ("mesh", "models"):
        page.click(f"[data-view-link={view}]")
        _still(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, view


def test_boxes_do_not_overlap(console: ConsoleThread, open_page: OpenPage) -> None:
    for scene, width in (("split", 1440), ("twelve", 1024), ("twelve", 390), ("split", 390)):
        _play(console, scene)
        page = open_page(width=width)
        page.click("#show-drawing")
        _still(page)
        overlaps = page.evaluate(
            """() => {
              const boxes = [...document.querySelectorAll(".node")]
                .map((e) => [e.textContent, e.getBoundingClientRect()]);
              const meet = (x, y) => x.right > y.left && y.right > x.left
                && x.bottom > y.top && y.bottom > x.top;
              return boxes.flatMap(([a, x], i) => boxes.slice(i + 1)
                .filter(([, y]) => meet(x, y)).map(([b]) => [a, b]));
            }"""
        )
        assert overlaps == [], (scene, width)


def _shake(node: ScriptedNode, chance: random.Random) -> None:
    number = chance.randrange(1, 30)
    key = f"peer/{peer_id(number)}"
    match chance.randrange(4):
        case 0:
            node.feed.publish({}, (key,))
        case 1:
            node.feed.record(event(f"Something about {number}.", 0))
        case _:
            node.feed.publish({key: peer_entry(number, in_flight=chance.randrange(9))})


@pytest.mark.parametrize("seed", range(3))
def test_what_a_tab_holds_after_changes_is_what_a_fresh_tab_gets(
    console: ConsoleThread, open_page: OpenPage, seed: int
) -> None:
    _play(console, "twelve")
    page = open_page()
    chance = random.Random(seed)
    for _ in range(120):
        console.do(lambda node: _shake(node, chance))
        if chance.random() < 0.1:
            page.wait_for_timeout(60)
        if chance.random() < 0.02:
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    held = """async (seq) => {
      // The page's own module: under its hashed name where the assets were collected.
      const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
      const { store } = await import(loaded.find((name) => /console\\/store[.\\w]*\\.js$/.test(name)));
      for (let n = 0; n < 100 && store.seq !== seq; n += 1) await new Promise((r) => setTimeout(r, 50));
      const history = store.history.map((entry) => entry.text);
      return { seq: store.seq, state: Object.fromEntries(store.state), history };
    }"""
    seq = console.do(lambda node: node.feed.seq)
    old = page.evaluate(held, seq)
    fresh = open_page().evaluate(held, seq)
    assert old["seq"] == seq
    assert old == fresh
    names = page.locator(".node:not(.ghost) .node-title, .row-name").count()
    assert names == 1 + sum(key.startswith("peer/") for key in fresh["state"])


def _will_say(told: OperatorResult, node: ScriptedNode) -> None:
    node.operator.result = told


def _change(key: str, changed: dict[str, Any], node: ScriptedNode) -> None:
    node.feed.publish({key: node.feed.state[key] | changed})


def _stir(console: ConsoleThread, page: Page, seconds: float) -> None:
    """Change twenty of a hundred machines in each second."""
    chance = random.Random(1)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        number = chance.randrange(1, 100)
        changed: dict[str, Any] = {
            "role": chance.choice(["host", "standby"]), "in_flight": chance.randrange(9),
            "used_gb": chance.uniform(0, 20), "tokens_per_s": chance.uniform(0, 90),
        }  # fmt: skip
        console.do(partial(_change, f"peer/{peer_id(number)}", changed))
        page.wait_for_timeout(50)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["drawing", "table"])
def test_a_hundred_machines_at_twenty_changes_a_second_drop_no_long_frame(
    console: ConsoleThread, browser: Browser, open_page: OpenPage, shape: str
) -> None:
    _play(console, "hundred")
    page = open_page()
    page.click(f"#show-{shape}")
    page.wait_for_timeout(500)
    # In the main thread's own time: what else the machine does is not the page's doing.
    with traced(browser, page) as tasks:
        _stir(console, page, 6)
    assert len(tasks) > 60, "the page was at work"
    assert max(tasks) <= 100


def test_the_first_paint_is_quick(
    console: ConsoleThread, browser: Browser, open_page: OpenPage
) -> None:
    """A second until something is seen, of which the page and the node may use so much of a core."""
    _play(console, "hundred")
    page = open_page("/login")
    began_s = time.process_time()
    with traced(browser, page) as tasks:
        page.goto(console.url)
        page.wait_for_selector("body[data-phase=live]")
        node_ms = (time.process_time() - began_s) * 1000
    assert sum(tasks) + node_ms <= 1000


def test_the_picture_of_this_node_is_its_own(console: ConsoleThread, open_page: OpenPage) -> None:
    _play(console, "failed")
    page = open_page()
    expect(_box(page, "study")).to_contain_text("Failed")
    expect(page.locator("#notices")).to_contain_text("RTX 4090 is not used")
    expect(page.locator("#panel-id")).to_have_text(NODE_ID)
