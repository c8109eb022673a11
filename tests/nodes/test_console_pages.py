"""The console's pages and small API: headers, errors, actions, logs."""

import pytest
from django.test import Client

from nodes.runtime import handle as node_handle
from nodes.runtime.handle import OperatorResult
from tests.fakes.node_handle import SECRET, ScriptedNode

BEARER = {"authorization": f"Bearer {SECRET}"}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/login",
        "/operator/none",
        "/nothing-here",
        "/api/status",
        "/admin/login/",
        "/health",
        "/static/console/main.js",
        "/static/admin/css/base.css",
        "/api/logs/none",
    ],
)
def test_every_answer_has_the_strict_policy(
    node: ScriptedNode, database: None, client: Client, path: str
) -> None:
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    if not path.startswith("/admin"):
        assert "require-trusted-types-for 'script'" in policy


@pytest.mark.parametrize("path", ["/", "/login", "/operator/none", "/nothing-here"])
def test_no_page_has_inline_script_or_style(node: ScriptedNode, client: Client, path: str) -> None:
    html = client.get(path).content.decode()
    assert "<style" not in html
    assert " style=" not in html
    assert " onclick=" not in html
    assert html.count("<script") == html.count("<script src=") + html.count(
        '<script type="module" src='
    )


def test_a_fault_of_ours_is_a_page_with_the_policy(
    node: ScriptedNode, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("nodes.views.access.is_operator", broken)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert b"boom" not in answer.content


def test_an_action_needs_an_operator(node: ScriptedNode, client: Client) -> None:
    answer = client.post("/api/actions", {"action": "drop", "model": "m"}, "application/json")
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "operator_required"
    assert node.operator.asked == []


def test_what_can_be_served_is_told_to_an_operator_alone(
    node: ScriptedNode, client: Client
) -> None:
    assert client.get("/api/servable").status_code == 403
    told = client.get("/api/servable", headers=BEARER).json()["models"]
    assert [model["name"] for model in told] == ["qwen3-8b", "GLM-4.7-Flash"]


@pytest.mark.parametrize(
    "action", ["drop", "load", "restart", "stop", "drain", "undrain", "block", "reject"]
)
def test_an_action_is_carried_out_and_its_outcome_told(
    node: ScriptedNode, client: Client, action: str
) -> None:
    body = {"action": action, "model": "m"}
    answer = client.post("/api/actions", body, "application/json", headers=BEARER)
    assert answer.json() == {"ok": True, "outcome": "done", "text": "Done as asked."}
    assert node.operator.asked == [(action, "" if action == "stop" else "m")]


def test_an_action_that_fails_says_why(node: ScriptedNode, client: Client) -> None:
    node.operator.result = OperatorResult(False, "Nobody serves m.")
    body = {"action": "drop", "model": "m"}
    answer = client.post("/api/actions", body, "application/json", headers=BEARER)
    assert answer.status_code == 409
    assert answer.json()["text"] == "Nobody serves m."


@pytest.mark.parametrize("body", ["", "[]", "{", '"x"'])
def test_an_action_that_is_no_object_is_refused(
    node: ScriptedNode, client: Client, body: str
) -> None:
    answer = client.post("/api/actions", body, "application/json", headers=BEARER)
    assert answer.status_code == 400


def test_logs_come_in_increments(node: ScriptedNode, client: Client) -> None:
    node.logs.lines["m"] = ["one", "two", "three"]
    assert client.get("/api/logs/m?after=1").json() == {
        "model": "m",
        "first": 2,
        "lines": ["two", "three"],
    }
    assert client.get("/api/logs/m?after=x").status_code == 400
    assert client.get("/api/logs/other").status_code == 404


def test_without_a_node_the_small_api_says_so(client: Client) -> None:
    assert client.get("/api/status").status_code == 503
    assert client.get("/health").status_code == 503
    assert client.get("/").status_code == 200


def test_metrics_are_the_nodes(node: ScriptedNode, client: Client) -> None:
    assert client.get("/metrics").content == b"mesh_up 1\n"


@pytest.mark.parametrize("can_join", [False, True])
def test_adding_a_machine_is_offered_only_where_it_works(client: Client, can_join: bool) -> None:
    ScriptedNode(can_join=can_join).install()
    try:
        html = client.get("/").content.decode()
    finally:
        node_handle.install(None)
    assert ('data-view-link="add"' in html) is can_join
    assert ('id="view-add"' in html) is can_join
    assert ("--join" in html or "Add a machine" in html) is can_join


@pytest.mark.parametrize("action", ["forget", "revoke", "approve", "revoke_token"])
def test_an_action_on_a_machine_or_token_reaches_the_node(
    node: ScriptedNode, client: Client, action: str
) -> None:
    body = {"action": action, "target": "ab" * 32}
    assert client.post("/api/actions", body, "application/json").status_code == 403
    answer = client.post("/api/actions", body, "application/json", headers=BEARER)
    assert answer.json()["ok"] is True
    assert node.operator.asked == [(action, "ab" * 32)]


def test_why_is_answered_in_the_nodes_own_sentences(node: ScriptedNode, client: Client) -> None:
    node.reasons["m"] = {"model": "m", "sentence": "It fits nowhere.", "candidates": []}
    assert client.get("/api/why?model=m").json()["sentence"] == "It fits nowhere."
    ScriptedNode(why=None).install()
    assert client.get("/api/why?model=m").status_code == 404
