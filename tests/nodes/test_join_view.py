"""Tokens over the console's API: for operators alone, within bounds, shown once."""

import pytest
from django.test import Client

from nodes.join_view import qr_image
from nodes.runtime.handle import OperatorResult
from tests.fakes.node_handle import SECRET, TOKEN, ScriptedNode

BEARER = {"authorization": f"Bearer {SECRET}"}


def test_only_an_operator_lists_and_makes_tokens(node: ScriptedNode, client: Client) -> None:
    assert client.get("/api/tokens").status_code == 403
    assert client.post("/api/tokens", {}, "application/json").status_code == 403
    assert node.operator.asked == []


def test_a_token_comes_with_its_command_and_code(node: ScriptedNode, client: Client) -> None:
    asked = {"hours": 2, "uses": 1, "clients_only": True, "label": "phone"}
    made = client.post("/api/tokens", asked, "application/json", headers=BEARER).json()
    assert made["command"] == f"mesh-llm --client --join {TOKEN}-t1"
    assert made["expires_s"] == 7200
    assert made["qr"].startswith("data:image/svg+xml")
    listed = client.get("/api/tokens", headers=BEARER)
    assert [row["label"] for row in listed.json()["tokens"]] == ["phone"]
    assert TOKEN not in listed.content.decode()
    assert "no-store" in listed.headers["Cache-Control"]


@pytest.mark.parametrize(
    "asked",
    [
        {"hours": 0}, {"hours": 1e9}, {"hours": True}, {"hours": "1"}, {"uses": 0}, {"uses": 1.5},
        {"uses": 10**9}, {"uses": True}, [], "x",
    ],
)  # fmt: skip
def test_a_wish_beyond_the_bounds_is_refused(
    node: ScriptedNode, client: Client, asked: object
) -> None:
    answer = client.post("/api/tokens", asked, "application/json", headers=BEARER)
    assert answer.status_code == 400
    assert node.operator.made == []


def test_the_nodes_refusal_is_told(node: ScriptedNode, client: Client) -> None:
    node.operator.result = OperatorResult(False, "This node may not invite.")
    answer = client.post("/api/tokens", {}, "application/json", headers=BEARER)
    assert (answer.status_code, answer.json()["text"]) == (409, "This node may not invite.")


def test_a_command_too_long_for_a_camera_gets_no_code() -> None:
    assert qr_image("x" * 2_001) is None
