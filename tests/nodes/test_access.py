"""Who may see the console and who may act."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from nodes import access, login_guard
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


@pytest.mark.parametrize("origin", ["http://localhost:8080", "http://127.0.0.1:3131", "null"])
def test_a_page_of_another_program_on_this_machine_may_not_act(
    node: ScriptedNode, client: Client, origin: str
) -> None:
    """Cookies know no ports: its request would come with the operator's session."""
    client.get(access.new_operator_link(""))
    headers = {"origin": origin, "host": "localhost:3131"}
    body = {"action": "drop", "target": "m"}
    for path in ("/api/actions", "/api/tokens", "/api/chat"):
        answer = client.post(path, body, "application/json", headers=headers)
        assert answer.status_code == 403, path
        assert answer.json()["error"]["code"] == "origin_refused"
    own = {"origin": "http://localhost:3131", "host": "localhost:3131"}
    assert client.post("/api/actions", body, "application/json", headers=own).status_code == 200
    assert node.operator.asked == [("drop", "m")]


def test_an_origin_may_act_when_it_is_named_and_not_because_all_may_read(client: Client) -> None:
    headers = {"origin": "https://app.example", **BEARER}
    body = {"action": "drop", "target": "m"}
    for origins, status in ((("*",), 403), (("https://app.example",), 200)):
        ScriptedNode(cors_origins=origins).install()
        answer = client.post("/api/actions", body, "application/json", headers=headers)
        assert answer.status_code == status


def test_a_viewer_sees_everything_and_changes_nothing(database: None) -> None:
    node = ScriptedNode(loopback_only=False, host_names=("*",)).install()
    get_user_model().objects.create_user("ann", password="correct horse")
    client = Client(headers={"host": "box.lan:3131"})
    client.post("/login", {"username": "ann", "password": "correct horse"})
    for path in ("/", "/api/status", "/api/events", "/api/requests", "/api/charts", "/api/why"):
        assert client.get(path).status_code == 200, path
    assert "token" not in client.get("/api/status").json()
    for path in ("/api/tokens", "/api/actions", "/api/operator-link"):
        assert client.post(path, {}, "application/json").status_code == 403, path
    assert client.get("/api/tokens").status_code == 403
    assert client.get("/admin/").status_code == 302
    assert node.operator.asked == []
    assert 'data-operator="no"' in client.get("/").content.decode()


def test_guessing_passwords_is_made_slow_for_that_address_alone(
    node: ScriptedNode, database: None, client: Client
) -> None:
    get_user_model().objects.create_superuser("root", password="correct horse")
    login_guard._failures.clear()
    good = {"username": "root", "password": "correct horse"}
    for _ in range(login_guard.FAILURES_MAX):
        assert client.post("/login", {**good, "password": "wrong"}).status_code == 200
    refused = client.post("/login", good)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 60
    assert client.post("/admin/login/", good).status_code == 429
    assert client.post("/login", good, REMOTE_ADDR="192.0.2.9").status_code == 302
    assert client.get("/").status_code == 200
    login_guard._failures.clear()


def test_failures_are_forgotten_with_time_and_by_a_good_login() -> None:
    login_guard._failures.clear()
    for second in range(login_guard.FAILURES_MAX):
        login_guard.note_failure("a", float(second))
    assert login_guard.wait_s("a", 10.0) == login_guard.WINDOW_S - 10
    assert login_guard.wait_s("a", login_guard.WINDOW_S + 1) == 0
    login_guard.forget("a")
    assert login_guard.wait_s("a", 10.0) == 0
    for number in range(login_guard.ADDRESSES_MAX + 10):
        login_guard.note_failure(str(number), 0.0)
    assert len(login_guard._failures) == login_guard.ADDRESSES_MAX
    login_guard._failures.clear()
