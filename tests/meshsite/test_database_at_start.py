"""A database that cannot be used when the node starts: waited for, never written before it is ours."""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from meshsite import database, django_side
from meshsite.compose import RunningNode
from nodes.models import ForeignDatabaseError
from nodes.projection import Projection
from nodes.runtime.feed import Feed
from proxy.records import Outcome, RequestRecord


class NodeSeen:
    """What `keep_records` needs of a node."""

    def __init__(self) -> None:
        self.feed = Feed()
        self.handle = self
        self.node_id = "ab" * 32
        self.notices: list[str | None] = []
        self.on_request: Any = None
        self.tasks: list[asyncio.Task[Any]] = []

    def notice(self, kind: str, text: str | None) -> None:
        self.notices.append(text)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Prepared:
    """`database.prepare` that goes through these outcomes, and the projection that notes its run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *outcomes: str | Exception | None) -> None:
        self.left = list(outcomes)
        self.projecting = asyncio.Event()
        monkeypatch.setattr(django_side, "PREPARE_RETRY_S", (0.01, 0.02))
        monkeypatch.setattr(database, "prepare", self._prepare)
        monkeypatch.setattr(Projection, "run", self._run)

    def _prepare(self, node_id: str) -> str | None:
        assert not self.projecting.is_set(), "written before it was known whose it is"
        outcome = self.left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _run(self) -> None:
        self.projecting.set()


async def keep_records(node: NodeSeen) -> str | None:
    async with asyncio.timeout(5):
        try:
            return await django_side.keep_records(cast(RunningNode, node))
        finally:
            await node.end()


async def test_database_that_is_away_is_prepared_again_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared = Prepared(monkeypatch, "It is locked.", "It is locked.", None)
    node = NodeSeen()
    assert await keep_records(node) is None
    assert prepared.left == [] and prepared.projecting.is_set()
    assert node.notices == ["It is locked.", "It is locked.", None]


async def test_database_that_turns_out_foreign_later_ends_the_node_unwritten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared = Prepared(monkeypatch, "It is away.", ForeignDatabaseError("It is another node's."))
    assert await keep_records(NodeSeen()) == "It is another node's."
    assert not prepared.projecting.is_set()


async def test_usage_is_summed_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Projection, "note_usage", lambda self, *numbers: noted.append(numbers))
    Prepared(monkeypatch, *["It is away."] * 50, None)
    node = NodeSeen()
    keeping = asyncio.create_task(keep_records(node))
    async with asyncio.timeout(5):
        while node.on_request is None:  # noqa: ASYNC110 - set by what is tested
            await asyncio.sleep(0.001)
    node.on_request(
        RequestRecord("r", "/v1/completions", "tiny", "n", 200, False, 1.0, 2.0, 7, Outcome.ANSWERED, 0)
    )  # fmt: skip
    await keeping
    assert [numbers[:2] for numbers in noted] == [("tiny", 1)]
