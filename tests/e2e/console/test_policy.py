"""The strict policy on every page, in a browser that reports what it refuses: nothing may be refused."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections
from playwright.sync_api import expect

from nodes.models import MeshEvent
from proxy.api_keys import key_ring
from tests.e2e.console.conftest import OpenPage
from tests.fakes.console_thread import ConsoleThread
from tests.fakes.node_handle import SECRET

pytestmark = pytest.mark.browser
PASSWORD = "correct horse battery"


def _accounts() -> None:
    """Make them on a thread of its own: Playwright's loop runs on this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_make_accounts).result()


def _make_accounts() -> None:
    call_command("migrate", interactive=False, verbosity=0)
    call_command("flush", interactive=False, verbosity=0)
    get_user_model().objects.create_superuser("root", password=PASSWORD)
    MeshEvent.objects.create(text="<b>An event</b>", kind="a")
    connections.close_all()


@pytest.mark.parametrize(
    "path",
    [
        "/#mesh",
        "/#models",
        "/#chat",
        "/#use",
        "/#requests",
        "/#add",
        "/login",
        "/operator/x",
        "/no",
        "/admin/login/",
    ],
)
def test_no_page_breaks_its_own_policy(open_page: OpenPage, faults: list[str], path: str) -> None:
    page = open_page(path)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.violations") == []
    assert not faults


def test_the_policy_does_refuse(open_page: OpenPage, faults: list[str]) -> None:
    page = open_page("/login")
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          try { script.textContent = "window.hurt = 1"; } catch { /* trusted types */ }
          document.body.append(script);
        }"""
    )
    page.evaluate("document.body.setAttribute('style', 'color: red')")
    page.wait_for_function("window.violations.length > 0")
    assert page.evaluate("window.hurt") is None
    faults.clear()


def test_an_admin_works_under_the_policy(console: ConsoleThread, open_page: OpenPage) -> None:
    _accounts()
    page = open_page("/admin/")
    page.fill("[name=username]", "root")
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#content")).to_contain_text("What this node knows")
    page.goto(f"{console.url}/admin/nodes/meshevent/")
    expect(page.locator("#result_list")).to_contain_text("<b>An event</b>")
    page.locator(".change-list .toplinks a, nav.toplinks a").first.click()
    expect(page.locator("#result_list")).to_contain_text("<b>An event</b>")
    page.locator("#changelist-filter a").first.click()
    page.goto(f"{console.url}/admin/proxy/apikey/add/")
    page.fill("[name=name]", "laptop")
    expect(page.locator(".vDateField")).to_be_visible()
    page.locator(".datetimeshortcuts .date-icon").first.click()
    expect(page.locator(".calendarbox").first).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Save", exact=True).click()
    shown = page.locator(".messagelist").inner_text()
    found = re.search(r"mesh-[A-Za-z0-9_-]{40,}", shown)
    assert found
    assert key_ring.allows(found.group(), SECRET)
    page.reload()
    assert found.group() not in page.content()
    page.locator("#action-toggle").check()
    page.select_option("[name=action]", "revoke")
    page.get_by_role("button", name="Go").or_(page.get_by_role("button", name="Run")).first.click()
    expect(page.locator(".messagelist")).to_contain_text("Revoked: 1.")
    assert not key_ring.allows(found.group(), SECRET)
    page.goto(f"{console.url}/admin/password_change/")
    page.get_by_role("button", name="Log out").click()
    key_ring.replace({})


def test_a_login_leads_on_and_makes_an_operator(
    console: ConsoleThread, open_page: OpenPage
) -> None:
    _accounts()
    page = open_page("/login?next=/%23models")
    page.fill("[name=username]", "root")
    page.fill("[name=password]", "wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("do not match")
    page.fill("[name=username]", "root")
    page.fill("[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("body")).to_have_attribute("data-operator", "yes")
