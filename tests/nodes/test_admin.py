"""The admin: facts that can be read and not changed, in a constant number of queries; actions; keys."""

import asyncio
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Model
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from models_registry.models import LaunchRecord, ServedModel
from nodes.consumers import run_gossip_channel
from nodes.models import DatabaseOwner, Election, MeshEvent, Peer
from nodes.runtime import handle as node_handle
from proxy.api_keys import key_ring
from proxy.models import ApiKey, Usage
from tests.fakes.node_handle import SECRET, ScriptedNode

HOSTILE = "<script>alert(1)</script>"
ROWS: dict[type[Model], Callable[[int], dict[str, Any]]] = {
    Peer: lambda n: {"node_id": f"{n:064x}", "name": f"{HOSTILE}{n}", "vram_gb": 1.5, "rtt_ms": 2},
    Election: lambda n: {"model": f"m{n}", "host": "a" * 64, "text": HOSTILE},
    MeshEvent: lambda n: {"text": f"{HOSTILE} {n}", "kind": "engine_ready", "model": "m"},
    ServedModel: lambda n: {"name": f"{HOSTILE}{n}", "size_bytes": 10**9, "status": "warm"},
    LaunchRecord: lambda n: {"model": f"m{n}", "number": n, "ready_at": timezone.now()},
    ApiKey: lambda n: {"name": f"{HOSTILE}{n}", "prefix": "mesh-abc", "digest": f"{n:064x}"},
    Usage: lambda n: {"hour": timezone.now() - timedelta(hours=n), "model": HOSTILE, "requests": n},
}
FACTS = [Peer, Election, MeshEvent, ServedModel, LaunchRecord, Usage, DatabaseOwner]


def _make(model: type[Model], count: int) -> None:
    rows = [model(**ROWS[model](n)) for n in range(1, count + 1)]
    model._default_manager.bulk_create(rows)


def _path(model: type[Model], rest: str = "") -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/{rest}"


@pytest.fixture
def staff(node: ScriptedNode, database: None, client: Client) -> Iterator[Client]:
    """Return a client that is logged in as a superuser."""
    client.force_login(get_user_model().objects.create_superuser("root"))
    yield client
    key_ring.replace({})


def _text(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, path
    return answer.content.decode()


@pytest.mark.parametrize("model", ROWS)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(
    staff: Client, model: type[Model]
) -> None:
    _text(staff, _path(model))
    counts = []
    for rows in (2, 45):
        model._default_manager.all().delete()
        _make(model, rows)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            html = _text(staff, _path(model))
        counts.append(len(queries))
        assert HOSTILE not in html
    assert counts[0] == counts[1]
    assert counts[0] <= 12


@pytest.mark.parametrize("model", ROWS)
def test_lists_can_be_searched_filtered_and_drilled_into_by_date(
    staff: Client, model: type[Model]
) -> None:
    _make(model, 3)
    _text(staff, _path(model, "?q=nothing-of-this-name"))
    date = admin.site._registry[model].date_hierarchy
    now = timezone.now()
    html = _text(staff, _path(model, f"?{date}__year={now.year}&{date}__month={now.month}"))
    assert "of 0 selected" not in html
    for name in admin.site._registry[model].list_filter:
        assert staff.get(_path(model, f"?{name}__isnull=False")).status_code in (200, 302)


@pytest.mark.parametrize("model", FACTS)
def test_facts_can_be_read_and_not_changed(staff: Client, model: type[Model]) -> None:
    if model is DatabaseOwner:
        DatabaseOwner.claim("a" * 64)
    else:
        _make(model, 1)
    row = model._default_manager.get()
    assert 'name="_save"' not in _text(staff, _path(model, f"{row.pk}/change/"))
    assert staff.get(_path(model, "add/")).status_code == 403
    for path in ("add/", f"{row.pk}/change/", f"{row.pk}/delete/"):
        assert staff.post(_path(model, path), {"text": "forged"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    staff.post(_path(model), chosen)
    assert model._default_manager.get().pk == row.pk


def test_the_index_and_every_app_render(staff: Client) -> None:
    html = _text(staff, "/admin/")
    assert "What this node knows" in html
    for name in ("Mesh", "Models", "API"):
        assert f"Models in the {name} application" in html
    for app in ("nodes", "models_registry", "proxy", "auth"):
        _text(staff, f"/admin/{app}/")


def test_a_stranger_and_an_account_without_staff_rights_see_nothing(
    node: ScriptedNode, database: None, client: Client
) -> None:
    assert client.get("/admin/").status_code == 302
    client.force_login(get_user_model().objects.create_user("ann"))
    assert client.get(_path(Peer)).status_code == 302


@pytest.mark.parametrize(
    ("action", "asked"),
    [("drop_models", "drop"), ("load_models", "load"), ("restart_models", "restart")],
)
async def test_an_action_becomes_an_operator_message_and_its_outcome_an_event(
    database: None, action: str, asked: str
) -> None:
    node = ScriptedNode(host_names=("*",), node_id=f"admin-{action}").install()
    channel = asyncio.create_task(run_gossip_channel(f"admin-{action}"))
    try:
        user = await get_user_model().objects.acreate(
            username="root", is_staff=True, is_superuser=True
        )
        await ServedModel.objects.acreate(name="big-model", status="warm")
        client = AsyncClient(headers={"host": "localhost"})
        await client.aforce_login(user)
        row = await ServedModel.objects.aget()
        body = {"action": action, "_selected_action": [row.pk]}
        answer = await client.post(_path(ServedModel), body, follow=True)
        assert f"Asked the node: {asked} big-model." in answer.content.decode()
        async with asyncio.timeout(5):
            while not node.feed.snapshot().history:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert node.operator.asked == [(asked, "big-model")]
    finally:
        node_handle.install(None)
        channel.cancel()
        await asyncio.gather(channel, return_exceptions=True)


def test_an_action_without_a_node_says_so(staff: Client) -> None:
    _make(ServedModel, 1)
    node_handle.install(None)
    row = ServedModel.objects.get()
    body = {"action": "drop_models", "_selected_action": [row.pk]}
    answer = staff.post(_path(ServedModel), body, follow=True)
    assert "nobody to ask" in answer.content.decode()


def _add_key(staff: Client, **fields: str) -> str:
    body = {"name": "laptop", "expires_at_0": "", "expires_at_1": "", **fields}
    html = staff.post(_path(ApiKey, "add/"), body, follow=True).content.decode()
    found = re.search(r"mesh-[A-Za-z0-9_-]{40,}", html)
    assert found, html
    return found.group()


def test_a_key_is_shown_once_and_never_kept(staff: Client) -> None:
    key = _add_key(staff)
    row = ApiKey.objects.get()
    assert key not in "".join(str(value) for value in vars(row).values())
    assert key.startswith(row.prefix)
    for path in (_path(ApiKey), _path(ApiKey, f"{row.pk}/change/"), "/admin/"):
        assert key not in _text(staff, path)


def test_a_key_is_good_at_once_and_refused_as_soon_as_it_is_revoked(staff: Client) -> None:
    key = _add_key(staff)
    assert key_ring.allows(key, SECRET)
    assert not key_ring.allows(key, "another home's secret")
    row = ApiKey.objects.get()
    staff.post(_path(ApiKey), {"action": "revoke", "_selected_action": [row.pk]})
    assert not key_ring.allows(key, SECRET)
    row.refresh_from_db()
    assert row.revoked_at is not None
    assert "revoked" in _text(staff, _path(ApiKey))


@pytest.mark.parametrize("how", ["one", "list"])
def test_a_deleted_key_is_refused(staff: Client, how: str) -> None:
    key = _add_key(staff)
    row = ApiKey.objects.get()
    if how == "one":
        staff.post(_path(ApiKey, f"{row.pk}/delete/"), {"post": "yes"})
    else:
        chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
        staff.post(_path(ApiKey), chosen)
    assert not ApiKey.objects.exists()
    assert not key_ring.allows(key, SECRET)


def test_a_changed_expiry_holds_at_once_and_changes_no_key(staff: Client) -> None:
    key = _add_key(staff)
    row = ApiKey.objects.get()
    digest = row.digest
    body = {"name": "laptop", "expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}
    answer = staff.post(_path(ApiKey, f"{row.pk}/change/"), body, follow=True)
    assert "shown this once" not in answer.content.decode()
    row.refresh_from_db()
    assert row.digest == digest
    assert not key_ring.allows(key, SECRET)
    assert "expired" in _text(staff, _path(ApiKey))


@pytest.mark.parametrize("model", [Peer, Election, MeshEvent, ServedModel, LaunchRecord, Usage])
def test_an_empty_list_says_what_will_be_here(staff: Client, model: type[Model]) -> None:
    html = _text(staff, _path(model))
    assert '<p class="empty-list">' in html
    assert admin.site._registry[model].empty_text in html.replace("&#x27;", "'")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("action", "asked"), [("forget_peers", "forget"), ("revoke_peers", "revoke")]
)
async def test_an_action_on_machines_goes_through_the_mesh_and_never_to_this_node(
    database: None, action: str, asked: str
) -> None:
    node = ScriptedNode(host_names=("*",), node_id=f"admin-{action}").install()
    channel = asyncio.create_task(run_gossip_channel(f"admin-{action}"))
    try:
        user = await get_user_model().objects.acreate(
            username="root", is_staff=True, is_superuser=True
        )
        mine = await Peer.objects.acreate(node_id="a" * 64, name="me", is_self=True)
        other = await Peer.objects.acreate(node_id="b" * 64, name="barn", state="dead")
        client = AsyncClient(headers={"host": "localhost"})
        await client.aforce_login(user)
        body = {"action": action, "_selected_action": [mine.pk, other.pk]}
        answer = await client.post(_path(Peer), body, follow=True)
        assert f"Asked the node: {asked} barn." in answer.content.decode()
        async with asyncio.timeout(5):
            while not node.feed.snapshot().history:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert node.operator.asked == [(asked, "b" * 64)]
        assert node.feed.snapshot().history[-1]["node"] == "b" * 64
    finally:
        node_handle.install(None)
        channel.cancel()
        await asyncio.gather(channel, return_exceptions=True)
