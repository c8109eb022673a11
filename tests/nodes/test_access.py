"""Who may see the console and who may act."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from nodes import access
from tests.fakes.node_handle import SECRET, TOKEN, ScriptedNode

BEARER = {"authorization": f"Bearer {SECRET}"}


def test_on_loopback_anybody_views_and_nobody_sees_the_token(
    node: ScriptedNode, client: Client
) -> None:
    assert client.get("/").status_code == 200
    assert "token" not in client.get("/api/status").json()
    assert client.get("/api/token").status_code == 403


def test_the_homes_secret_makes_an_operator(node: ScriptedNode, client: Client) -> None:
    assert client.get("/api/status", headers=BEARER).json()["token"] == TOKEN
    assert client.get("/api/token", headers=BEARER).json() == {"token": TOKEN}


@pytest.mark.parametrize("value", ["Bearer wrong", "Bearer ", f"Basic {SECRET}", "Bearer \u00e9"])
def test_a_wrong_secret_is_a_stranger(node: ScriptedNode, client: Client, value: str) -> None:
    assert client.get("/api/token", headers={"authorization": value}).status_code == 403


def test_an_operator_link_works_once(node: ScriptedNode, client: Client) -> None:
    path = access.new_operator_link("http://localhost:3131").removeprefix("http://localhost:3131")
    first = client.get(path)
    assert first.status_code == 200
    cookie = next(c for name, c in first.cookies.items() if name.startswith("mesh_operator"))
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    assert client.get("/api/token").status_code == 200
    stranger = Client(headers={"host": "localhost:3131"})
    assert stranger.get(path).status_code == 410
    assert stranger.get("/api/token").status_code == 403


def test_an_operator_link_expires(
    node: ScriptedNode, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "OPERATOR_LINK_LIFETIME_S", -1)
    assert client.get(access.new_operator_link("")).status_code == 410


def test_unused_operator_links_are_bounded(node: ScriptedNode, client: Client) -> None:
    first = access.new_operator_link("")
    for _ in range(access.OPERATOR_LINKS_MAX):
        access.new_operator_link("")
    assert len(access._links) == access.OPERATOR_LINKS_MAX
    assert client.get(first).status_code == 410


def test_a_forged_or_foreign_session_is_a_stranger(node: ScriptedNode, client: Client) -> None:
    client.cookies["mesh_operator_abababab"] = "operator:forged"
    assert client.get("/api/token").status_code == 403


def test_a_foreign_host_is_refused_everywhere(node: ScriptedNode, client: Client) -> None:
    for path in ("/", "/api/status", "/admin/", "/health"):
        assert client.get(path, headers={"host": "evil.example"}).status_code == 421


def test_another_site_may_not_post(node: ScriptedNode, client: Client) -> None:
    headers = {"origin": "https://evil.example", **BEARER}
    asked = client.post("/api/actions", {"action": "stop"}, "application/json", headers=headers)
    assert asked.status_code == 403
    assert node.operator.asked == []


def test_a_post_without_the_forgery_token_is_refused(node: ScriptedNode) -> None:
    client = Client(enforce_csrf_checks=True, headers={"host": "localhost:3131"})
    link = access.new_operator_link("")
    client.get(link)
    refused = client.post("/api/actions", {"action": "stop"}, "application/json")
    assert refused.status_code == 403
    assert node.operator.asked == []
    by_hand = client.post("/api/actions", {"action": "stop"}, "application/json", headers=BEARER)
    assert by_hand.status_code == 200


def test_beyond_loopback_a_login_is_needed_for_everything_but_health(database: None) -> None:
    ScriptedNode(loopback_only=False, host_names=("*",)).install()
    client = Client(headers={"host": "box.lan:3131"})
    assert client.get("/health").status_code == 200
    assert client.get("/").headers["Location"] == "/login?next=/"
    for path in ("/api/status", "/api/events", "/metrics"):
        assert client.get(path).status_code == 401
    assert client.get("/api/status", headers=BEARER).status_code == 200
    get_user_model().objects.create_user("ann", password="correct horse")
    assert client.post("/login", {"username": "ann", "password": "wrong"}).status_code == 200
    client.post("/login", {"username": "ann", "password": "correct horse"})
    assert client.get("/").status_code == 200
    assert client.get("/api/token").status_code == 403  # a viewer, not an operator


def test_a_staff_login_makes_an_operator(
    node: ScriptedNode, database: None, client: Client
) -> None:
    get_user_model().objects.create_superuser("root", password="correct horse")
    client.login(username="root", password="correct horse")
    assert client.get("/api/token").status_code == 200


def test_the_admin_groups_its_tables_under_names_for_people() -> None:
    from django.apps import apps

    titles = {
        label: str(apps.get_app_config(label).verbose_name)
        for label in ("nodes", "models_registry", "proxy")
    }
    assert titles == {"nodes": "Mesh", "models_registry": "Models", "proxy": "API"}
