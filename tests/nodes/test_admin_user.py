"""`mesh-llm admin-user`: the first account."""

import io
import sys

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.test import Client

from tests.fakes.node_handle import ScriptedNode


def _run(monkeypatch: pytest.MonkeyPatch, typed: str, *args: str) -> str:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    out = io.StringIO()
    call_command("admin_user", *args, stdout=out)
    return out.getvalue()


def test_the_account_can_log_in_and_act(
    node: ScriptedNode, database: None, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _run(monkeypatch, "correct horse battery\n", "--username", "ann", "--password-stdin")
    assert "Made the account ann" in said
    client.post("/login", {"username": "ann", "password": "correct horse battery"})
    assert client.get("/api/token").status_code == 200
    assert client.get("/admin/").status_code == 200


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("\n", "The password is empty"),
        ("12345678\n", "too common"),
        ("x1\n", "too short"),
    ],
)
def test_a_bad_password_makes_no_account(
    database: None, monkeypatch: pytest.MonkeyPatch, typed: str, reason: str
) -> None:
    with pytest.raises(CommandError, match=reason):
        _run(monkeypatch, typed, "--username", "ann", "--password-stdin")
    assert not get_user_model().objects.exists()


def test_a_name_that_is_taken_is_said_and_its_password_kept(
    database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(monkeypatch, "correct horse battery\n", "--username", "ann", "--password-stdin")
    with pytest.raises(CommandError, match="There is an account named ann already"):
        _run(monkeypatch, "another good phrase\n", "--username", "ann", "--password-stdin")
    assert get_user_model().objects.get().check_password("correct horse battery")


def test_without_a_terminal_what_is_missing_is_named(
    database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CommandError, match="--username"):
        _run(monkeypatch, "")
    with pytest.raises(CommandError, match="--password-stdin"):
        _run(monkeypatch, "", "--username", "ann")


def test_a_database_out_of_reach_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    connections.close_all()
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", str(tmp_path))
    with pytest.raises(CommandError, match="The database cannot be used"):
        _run(monkeypatch, "correct horse battery\n", "--username", "ann", "--password-stdin")
    connections.close_all()


def test_a_viewers_account_may_look_and_not_act(
    node: ScriptedNode, database: None, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _run(
        monkeypatch, "correct horse battery\n", "--username", "bob", "--password-stdin", "--viewer"
    )
    assert "viewer's account bob" in said
    client.post("/login", {"username": "bob", "password": "correct horse battery"})
    assert client.get("/").status_code == 200
    assert client.get("/api/token").status_code == 403
    assert client.get("/admin/").status_code == 302
