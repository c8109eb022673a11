"""Feed -> rows: complete, bounded, and unharmed by a bad database."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from models_registry.models import LaunchRecord, ServedModel
from nodes import projection, projection_rows
from nodes.models import DatabaseOwner, Election, ForeignDatabaseError, MeshEvent, Peer
from nodes.projection import Projection
from nodes.runtime.feed import Feed
from proxy.models import Usage
from tests.fakes.node_handle import model_entry, serving_state


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "BATCH_INTERVAL_S", 0.01)
    monkeypatch.setattr(projection, "RETRY_S", (0.02, 0.1))


@contextlib.asynccontextmanager
async def _running(projected: Projection) -> AsyncIterator[None]:
    task = asyncio.create_task(projected.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await sync_to_async(condition)():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_the_feed_becomes_rows(database: None) -> None:
    feed = Feed()
    projected = Projection(feed)
    async with _running(projected):
        feed.publish(serving_state())
        feed.record({"at": 1.0, "kind": "engine_ready", "level": "info", "text": "Ready."})
        projected.note_usage("mesh-demo", 2, 10, 20, 1)
        projected.note_usage("mesh-demo", 1, 5, 5, 0)
        await _until(lambda: Usage.objects.filter(requests=3, completion_tokens=25).exists())
        await _until(lambda: LaunchRecord.objects.filter(ended_at=None).exists())
        feed.publish(
            {
                "model/mesh-demo": model_entry(
                    "mesh-demo", status="cold", state="failed", reason="Out of memory."
                )
            }
        )
        await _until(lambda: LaunchRecord.objects.filter(outcome="Out of memory.").exists())
        feed.publish({}, ("model/mesh-demo",))
        await _until(lambda: not ServedModel.objects.get().present)
    assert await sync_to_async(lambda: Peer.objects.get().is_self)()
    assert await sync_to_async(lambda: MeshEvent.objects.get().text)() == "Ready."


async def test_a_bad_database_is_said_waited_out_and_loses_nothing(
    database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str | None] = []
    bad = True
    real = projection_rows.write_batch

    def write(*args: object) -> None:
        if bad:
            raise OperationalError("database is locked")
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(projection, "write_batch", write)
    feed = Feed()
    async with _running(Projection(feed, said.append)):
        feed.record({"at": 1.0, "kind": "a", "level": "info", "text": "one"})
        await _until(lambda: said)
        feed.record({"at": 2.0, "kind": "a", "level": "info", "text": "two"})
        bad = False
        await _until(lambda: MeshEvent.objects.count() == 2)
        await _until(lambda: said[-1] is None)
    assert "database is locked" in str(said[0])


def _peer(rtt_ms: float, state: str = "alive") -> dict[str, Any]:
    return {"id": "bb", "name": "attic", "state": state, "serving": [], "rtt_ms": rtt_ms}


def test_only_what_changes_is_written_and_all_of_it_now_and_then(database: None) -> None:
    written = projection_rows.Written()

    def queries(entry: dict[str, Any]) -> int:
        with CaptureQueriesContext(connection) as seen:
            projection_rows.write_batch({"peer/bb": entry}, (), {}, written)
        return sum("nodes_peer" in query["sql"] for query in seen.captured_queries)

    assert queries(_peer(1.0)) > 0
    assert queries(_peer(1.5)) == 0, "a round trip trembles"
    assert queries(_peer(2.0, "late")) == 1
    found = Peer.objects.get()
    assert (found.state, found.rtt_ms) == ("late", 2.0)
    Peer.objects.all().delete()
    assert written.all_at is not None
    written.all_at -= projection_rows.REFRESH
    assert queries(_peer(2.0, "late")) > 0
    assert Peer.objects.get().present


def test_batch_that_was_not_written_is_not_taken_for_written(database: None) -> None:
    written = projection_rows.Written()
    with pytest.raises(ValueError, match="expected a number"):
        projection_rows.write_batch({"peer/bb": {**_peer(1.0), "vram_gb": "much"}}, (), {}, written)
    assert written == projection_rows.Written()


async def test_an_election_is_a_row_of_its_own(database: None) -> None:
    feed = Feed()
    async with _running(Projection(feed)):
        feed.record(
            {"at": 1.0, "kind": "election", "level": "info", "text": "big was elected: split.",
             "model": "big", "term": 3, "host": "aa", "workers": ["bb"]}
        )  # fmt: skip
        await _until(Election.objects.exists)
    found = await sync_to_async(Election.objects.get)()
    assert (found.model, found.term, found.host, found.workers) == ("big", 3, "aa", ["bb"])


def test_a_database_serves_one_node(database: None) -> None:
    DatabaseOwner.claim("a" * 64)
    DatabaseOwner.claim("a" * 64)
    with pytest.raises(ForeignDatabaseError, match="belongs to node aaaa"):
        DatabaseOwner.claim("b" * 64)
