"""Add a machine: a fresh command that is hidden until asked for, approvals, and "it has joined"."""

import pytest
from playwright.sync_api import expect

from tests.e2e.console.conftest import OpenPage
from tests.fakes.console_thread import ConsoleThread
from tests.fakes.node_handle import TOKEN
from tests.fakes.scenes import SCENES, peer_entry, peer_id

pytestmark = pytest.mark.browser


def test_the_command_is_fresh_hidden_until_asked_copied_and_scannable(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#add", operator=True)
    assert TOKEN not in page.content()
    page.fill("#join-label", "the old laptop")
    page.get_by_role("button", name="Show the command").click()
    command = f"mesh-llm --join {TOKEN}-t1"
    expect(page.locator("#join code")).to_have_text(command)
    page.get_by_role("button", name="Copy: On a machine that lends its memory").click()
    page.wait_for_function(
        "text => navigator.clipboard.readText().then((t) => t === text)", arg=command
    )
    expect(page.locator("#join .qr")).to_be_hidden()
    page.get_by_role("button", name="Show as QR code").click()
    expect(page.locator("#join .qr")).to_be_visible()
    assert page.locator("#join .qr").evaluate("e => e.complete && e.naturalWidth > 60")
    page.select_option("#join-kind", "client")
    page.get_by_role("button", name="Make another").click()
    expect(page.locator("#join code")).to_have_text(f"mesh-llm --client --join {TOKEN}-t2")
    page.get_by_role("button", name="Hide the command").click()
    assert TOKEN not in page.content()
    assert console.node.operator.made[0]["label"] == "the old laptop"
    assert [row["clients_only"] for row in console.node.operator.made] == [False, True]


def test_a_machine_that_joins_is_welcomed_live(console: ConsoleThread, open_page: OpenPage) -> None:
    console.do(lambda node: SCENES["three"]().play(node))
    page = open_page("/#add", operator=True)
    page.get_by_role("button", name="Show the command").click()
    expect(page.locator("#join-wait")).to_be_visible()
    expect(page.locator("#joined li")).to_have_count(0)
    console.do(lambda node: node.feed.publish({f"peer/{peer_id(9)}": peer_entry(9)}))
    expect(page.locator("#joined li")).to_contain_text("juniper has joined")
    expect(page.locator("#join-wait")).to_be_hidden()


def test_machines_that_wait_are_approved_here(console: ConsoleThread, open_page: OpenPage) -> None:
    page = open_page("/#mesh", operator=True)
    expect(page.locator(".pending-badge")).to_be_hidden()
    console.do(lambda node: SCENES["split"]().play(node))
    expect(page.locator(".pending-badge")).to_have_text("1")
    page.click("[data-view-link=add]")
    expect(page.locator("#pending")).to_contain_text("juniper")
    page.get_by_role("button", name="Approve").click()
    page.click("#confirm-yes")
    expect(page.locator("#pending-outcome")).to_have_text("✓ Done. Done as asked.")
    assert console.node.operator.asked[-1] == ("approve", peer_id(9))
    console.do(lambda node: node.feed.publish({}, (f"pending/{peer_id(9)}",)))
    expect(page.locator("#pending")).to_be_hidden()
    expect(page.locator("#pending-outcome")).to_be_visible()


def test_machines_that_wait_can_be_turned_away(console: ConsoleThread, open_page: OpenPage) -> None:
    console.do(lambda node: SCENES["split"]().play(node))
    page = open_page("/#add", operator=True)
    page.get_by_role("button", name="Turn away").click()
    expect(page.locator("#confirm-title")).to_have_text("Turn juniper away?")
    page.click("#confirm-yes")
    expect(page.locator("#pending-outcome")).to_have_text("✓ Done. Done as asked.")
    assert console.node.operator.asked[-1] == ("reject", peer_id(9))


def test_tokens_are_listed_without_themselves_and_revoked(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#add", operator=True)
    page.get_by_role("button", name="Show the command").click()
    expect(page.locator("#tokens li")).to_contain_text("1 uses left")
    expect(page.locator("#tokens")).not_to_contain_text(TOKEN)
    page.get_by_role("button", name="Revoke").click()
    page.click("#confirm-yes")
    expect(page.locator("#tokens li")).to_have_count(0)
    expect(page.locator("#tokens-outcome")).to_have_text("✓ Done. Done as asked.")
    assert console.node.operator.made[0]["revoked"]


def test_a_viewer_is_told_that_only_an_operator_invites(open_page: OpenPage) -> None:
    page = open_page("/#add")
    expect(page.locator("#join-viewer")).to_be_visible()
    expect(page.locator("#join-show")).to_be_hidden()


def test_snippets_follow_the_chosen_model(console: ConsoleThread, open_page: OpenPage) -> None:
    console.do(lambda node: SCENES["three"]().play(node))
    page = open_page("/#use")
    page.select_option("#use-model", "qwen3-8b")
    expect(page.locator("[data-key=curl]")).to_contain_text("qwen3-8b")
    expect(page.locator("[data-key=Python]")).to_contain_text("http://127.0.0.1:9337/v1")


def test_snippets_say_where_the_key_goes_on_a_node_that_needs_one(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#use")
    expect(page.locator("[data-key=Python]")).to_contain_text('api_key="none"')
    expect(page.locator("[data-key=curl]")).not_to_contain_text("Authorization")
    console.do(
        lambda node: node.feed.publish({"node": {**node.feed.state["node"], "needs_key": True}})
    )
    expect(page.locator("[data-key=Python]")).to_contain_text('api_key="YOUR_API_KEY"')
    expect(page.locator("[data-key=curl]")).to_contain_text("Authorization: Bearer YOUR_API_KEY")


def test_a_model_is_chosen_from_disk_and_catalogue_and_served(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    page = open_page("/#models", operator=True)
    page.click("#servable summary")
    rows = page.locator("#servable-list li")
    expect(rows.nth(0)).to_contain_text("qwen3-8b on this disk · 5.0 GB · fits here")
    expect(rows.nth(1)).to_contain_text("to be downloaded · 18.0 GB · does not fit here")
    page.get_by_role("button", name="Choose qwen3-8b").click()
    page.keyboard.press("Enter")
    expect(page.locator("#serve-outcome")).to_have_text("✓ Done. Done as asked.")
    assert console.node.operator.asked == [("load", "qwen3-8b")]
