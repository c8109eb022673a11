"""What an operator is told: the true outcome, in time."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from meshsite import operator_door
from meshsite.mesh_side import MeshSide
from meshsite.operator_door import OperatorDoor
from nodes.mesh.events import (
    DiskScanned,
    DropRequested,
    ModelWanted,
    ResourcesSampled,
    StopRequested,
)
from nodes.mesh.ids import ModelName
from nodes.mesh.node import MeshNode
from nodes.runtime.driver import Driver
from nodes.runtime.feed import Feed
from tests.fakes.node_actions import NoActions
from tests.nodes.mesh.facts import exited, machine, model, ready, serving_node


class Member(MeshSide):
    """A member of no mesh: these actions are about models alone."""

    def __init__(self) -> None:
        """Nothing of a side is needed."""


@pytest.fixture
async def door_of() -> AsyncIterator[Callable[[MeshNode], OperatorDoor]]:
    tasks: list[asyncio.Task[None]] = []

    def made(node: MeshNode) -> OperatorDoor:
        driver = Driver(node, Feed(), NoActions())
        tasks.append(asyncio.create_task(driver.run()))
        return OperatorDoor(
            driver,
            Member(),
            lambda name: asyncio.create_task(fetched(name)),
            lambda reason: driver.post(StopRequested(reason)),
        )

    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def fetched(name: str) -> str:
    if name == "huge":
        await asyncio.sleep(60)
    return "There is no model called typo." if name == "typo" else ""


DoorOf = Callable[[MeshNode], OperatorDoor]


async def test_long_download_is_answered_before_the_command_line_gives_up(
    door_of: DoorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_door, "LOAD_ANSWER_S", 0.05)
    result = await door_of(serving_node()).load("huge")
    assert result.ok and "is being fetched" in result.text


async def test_model_that_cannot_be_fetched_is_refused(door_of: DoorOf) -> None:
    result = await door_of(serving_node()).load("typo")
    assert (result.ok, result.text) == (False, "There is no model called typo.")


async def test_restart_of_a_dropped_model_says_how_to_serve_it_again(door_of: DoorOf) -> None:
    node = serving_node("tiny", "other")
    node.handle(ready(1), 1.0)
    node.handle(DropRequested(ModelName("tiny"), leave_after=False), 2.0)
    result = await door_of(node).restart("tiny")
    assert not result.ok and "mesh-llm load tiny" in result.text


async def test_restart_of_a_model_that_does_not_fit_says_why(door_of: DoorOf) -> None:
    node = serving_node()
    node.handle(ResourcesSampled(machine(1_000_000)), 0.5)
    node.handle(ModelWanted(model("tiny")), 1.0)
    result = await door_of(node).restart("tiny")
    assert not result.ok and "need" in result.text and "have" in result.text


async def test_restart_of_a_running_model_is_done(door_of: DoorOf) -> None:
    assert (await door_of(serving_node("tiny")).restart("tiny")).ok


async def test_model_that_was_dropped_and_has_ended_is_served_by_nobody(door_of: DoorOf) -> None:
    node = serving_node("tiny", "other")
    node.handle(ready(1), 1.0)
    node.handle(DropRequested(ModelName("tiny"), leave_after=False), 2.0)
    node.handle(exited(1, asked=True), 3.0)
    result = await door_of(node).drop("tiny")
    assert not result.ok and "Nobody serves tiny" in result.text


async def test_what_can_be_named_is_what_is_on_disk_and_then_the_catalogue(door_of: DoorOf) -> None:
    node = serving_node()
    node.handle(DiskScanned((model("tiny"),)), 1.0)
    found = (await door_of(node).servable()).found["models"]
    first, *catalogue = found
    assert (first["name"], first["on_disk"], first["fits"]) == ("tiny", True, True)
    assert catalogue and not any(one["on_disk"] for one in catalogue)
    assert "path" not in first, "nothing of this machine's folders is told"
