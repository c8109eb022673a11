"""Projection against a database that is really locked, read-only, full or gone.

The node's side goes on meanwhile, the notice says what is wrong, and both heal by themselves.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import Client

from nodes import access, projection
from nodes.models import MeshEvent
from nodes.projection import Projection
from nodes.runtime.feed import Feed
from proxy.models import Usage
from tests.fakes.node_handle import SECRET, ScriptedNode, serving_state

Fault = Callable[[], AbstractContextManager[None]]
"""Makes the database bad for as long as it is entered."""


@pytest.fixture(autouse=True)
def quick(database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Short waits, the lock's too."""
    monkeypatch.setattr(projection, "BATCH_INTERVAL_S", 0.01)
    monkeypatch.setattr(projection, "RETRY_S", (0.02, 0.1))
    monkeypatch.setitem(_settings()["OPTIONS"], "timeout", 0.2)
    connections.close_all()
    yield
    connections.close_all()


def _settings() -> dict[str, Any]:
    return connections["default"].settings_dict


@contextmanager
def _changed(settings: dict[str, Any], key: str, value: Any) -> Iterator[None]:
    before = settings[key]
    settings[key] = value
    try:
        yield
    finally:
        settings[key] = before


@contextmanager
def locked() -> Iterator[None]:
    """Another process holds the write lock."""
    other = sqlite3.connect(_settings()["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def read_only() -> Iterator[None]:
    """The file cannot be written (opened so by SQLite: root may write what its rights forbid)."""
    with _changed(_settings(), "NAME", f"file:{_settings()['NAME']}?mode=ro"):
        yield


@contextmanager
def full() -> Iterator[None]:
    """Not one page more fits."""
    with contextlib.closing(sqlite3.connect(_settings()["NAME"])) as asked:
        asked.execute("VACUUM")  # else what other tests deleted would be room
        pages = asked.execute("PRAGMA page_count").fetchone()[0]
    options = _settings()["OPTIONS"]
    limit = f"{options['init_command']} PRAGMA max_page_count={pages};"
    with _changed(options, "init_command", limit):
        yield


@contextmanager
def gone() -> Iterator[None]:
    """The folder of the file is not there."""
    with _changed(_settings(), "NAME", str(Path(_settings()["NAME"]).parent / "none" / "db")):
        yield


@contextlib.asynccontextmanager
async def _running(projected: Projection) -> AsyncIterator[None]:
    task = asyncio.create_task(projected.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not await sync_to_async(condition)():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _longest_lag_s(for_s: float) -> float:
    longest, end = 0.0, time.monotonic() + for_s
    while time.monotonic() < end:
        began = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - began - 0.01)
    return longest


def _entry(text: str) -> dict[str, Any]:
    return {"at": time.time(), "kind": "a", "level": "info", "text": text}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (locked, "locked"),
        (read_only, "readonly"),
        (full, "full"),
        (gone, "unable to open"),
    ],
    ids=["locked", "read-only", "full", "gone"],
)
async def test_a_bad_database_is_said_waited_out_and_caught_up_with(
    fault: Fault, words: str
) -> None:
    said: list[str | None] = []
    feed = Feed()
    reader = feed.reader()
    projected = Projection(feed, said.append)
    with ExitStack() as bad:
        bad.enter_context(fault())
        async with _running(projected):
            feed.publish(serving_state())
            for number in range(300):
                feed.record(_entry(f"{number} {'x' * 3500}"))
            projected.note_usage("mesh-demo", 1, 2, 3, 0)
            await asyncio.wait_for(_said(said), 10)
            assert await _longest_lag_s(0.6) < 0.25
            feed.record(_entry("meanwhile"))
            async with asyncio.timeout(2):
                async for message in reader:
                    if message.seq == feed.seq:
                        break
            bad.close()
            await _until(lambda: MeshEvent.objects.filter(text="meanwhile").exists())
            await _until(lambda: said[-1] is None)
    assert await sync_to_async(MeshEvent.objects.count)() == 301
    assert await sync_to_async(lambda: Usage.objects.get().completion_tokens)() == 3
    assert words in str(said[0])
    assert "The node serves on" in str(said[0])


async def test_a_database_that_is_locked_later_loses_nothing_either() -> None:
    said: list[str | None] = []
    feed = Feed()
    async with _running(Projection(feed, said.append)):
        feed.record(_entry("before"))
        await _until(lambda: MeshEvent.objects.filter(text="before").exists())
        with locked():
            feed.record(_entry("meanwhile"))
            await asyncio.wait_for(_said(said), 10)
        await _until(lambda: MeshEvent.objects.count() == 2)
        await _until(lambda: said[-1] is None)


async def _said(said: list[str | None]) -> None:
    while not said:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", [locked, read_only, full, gone])
def test_the_console_and_its_operator_work_meanwhile(
    fault: Fault, node: ScriptedNode, client: Client
) -> None:
    link = access.new_operator_link("")
    with fault():
        connections.close_all()
        assert client.get("/").status_code == 200
        assert client.get(link).status_code == 200
        assert "token" in client.get("/api/status").json()
        body = {"action": "restart", "model": "m"}
        bearer = {"authorization": f"Bearer {SECRET}"}
        assert client.post("/api/actions", body, "application/json").status_code == 200
        assert client.post("/api/actions", body, "application/json", headers=bearer).json()["ok"]
        connections.close_all()


def test_a_login_cookie_and_no_database_make_a_viewer_not_an_error(
    node: ScriptedNode, client: Client
) -> None:
    client.cookies["sessionid"] = "a" * 32
    with gone():
        connections.close_all()
        assert client.get("/").status_code == 200
        assert client.get("/api/token").status_code == 403
        assert client.get("/admin/").status_code == 500
        connections.close_all()
