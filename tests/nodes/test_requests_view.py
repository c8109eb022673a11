"""Requests and charts over the console's API."""

from datetime import UTC, datetime

import pytest
from django.test import Client

from nodes import requests_view
from proxy.models import Usage
from proxy.series import RequestSeries
from tests.fakes.node_handle import ScriptedNode
from tests.fakes.traffic import document, record


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    requests_view._last.clear()


def test_the_last_requests_come_newest_first_and_bounded(
    node: ScriptedNode, client: Client
) -> None:
    node.requests = [document(number) for number in range(300)]
    found = client.get("/api/requests?limit=3").json()["requests"]
    assert [one["id"] for one in found] == ["req-0", "req-1", "req-2"]
    assert len(client.get("/api/requests?limit=100000").json()["requests"]) == 200


@pytest.mark.parametrize("path", ["/api/requests?limit=0", "/api/charts?minutes=x"])
def test_a_number_that_is_none_is_refused(node: ScriptedNode, client: Client, path: str) -> None:
    assert client.get(path).status_code == 400


def test_a_node_that_keeps_no_figures_says_so(client: Client) -> None:
    ScriptedNode(series=None, requests=None).install()
    assert client.get("/api/charts").status_code == 404
    assert client.get("/api/requests").json() == {"requests": []}


def test_what_was_before_this_start_comes_from_the_hours_of_usage(
    node: ScriptedNode, database: None, client: Client
) -> None:
    now = datetime.now(UTC).timestamp()
    node.series = RequestSeries(now)
    node.series.add(record(model="a"), now)
    hour = datetime.fromtimestamp(now - 7200 - (now - 7200) % 3600, UTC)
    Usage.objects.create(hour=hour, model="a", requests=40, errors=4, completion_tokens=400)
    found = client.get("/api/charts?minutes=360").json()
    line = found["models"][0]
    assert line["name"] == "a"
    assert sum(line["requests"]) == pytest.approx(41)
    assert sum(found["all"]["errors"]) == pytest.approx(4)
    assert max(line["requests"][:-1]) == pytest.approx(40 / 12)
    assert found["by_the_hour_before"] == found["began"]


def test_charts_do_without_a_database(
    node: ScriptedNode, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    def gone(*_: object, **__: object) -> None:
        raise OperationalError("no such table")

    monkeypatch.setattr(Usage.objects, "filter", gone)
    assert client.get("/api/charts?minutes=1440").json()["by_the_hour_before"] is None
