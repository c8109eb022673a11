"""The numbered feed: readers that keep up, fall behind, leave."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from nodes.mesh.snapshot import State, apply_delta, difference
from nodes.runtime.feed import (
    READER_PENDING_MAX,
    DeltaMessage,
    Feed,
    HistoryMessage,
    Reader,
    SnapshotMessage,
)

states = st.dictionaries(
    st.sampled_from([f"model/{n}" for n in range(6)]),
    st.fixed_dictionaries({"status": st.sampled_from(["warm", "cold"]), "n": st.integers(0, 3)}),
)


def apply(state: State, message: object) -> State:
    if isinstance(message, SnapshotMessage):
        return message.state
    if isinstance(message, DeltaMessage):
        return apply_delta(state, message.put, message.drop)
    return state


async def drained(reader: Reader, state: State) -> tuple[State, int]:
    seq = -1
    while reader._gap or reader._pending:
        message = await anext(reader)
        state, seq = apply(state, message), message.seq
    return state, seq


@given(before=states, after=states)
def test_difference_turns_one_map_into_the_other(before: State, after: State) -> None:
    assert apply_delta(before, *difference(before, after)) == after


@given(steps=st.lists(states, max_size=12))
def test_snapshot_and_deltas_equal_a_fresh_snapshot(steps: list[State]) -> None:
    async def run() -> None:
        feed = Feed()
        held: State = {}
        reader = feed.reader()
        held, _ = await drained(reader, held)
        for step in steps:
            feed.publish(*difference(feed.state, step))
        held, _ = await drained(reader, held)
        assert held == feed.snapshot().state

    asyncio.run(run())


async def test_every_change_has_the_next_number() -> None:
    feed = Feed()
    reader = feed.reader()
    assert (await anext(reader)).seq == 0
    feed.publish({"node": {"a": 1}})
    feed.record({"text": "x"})
    feed.publish({}, ("node",))
    messages = [await anext(reader) for _ in range(3)]
    assert [m.seq for m in messages] == [1, 2, 3]
    assert isinstance(messages[1], HistoryMessage)


async def test_a_change_of_nothing_is_not_numbered() -> None:
    feed = Feed()
    feed.publish({})
    assert feed.seq == 0


async def test_reader_that_falls_behind_gets_a_snapshot_instead() -> None:
    feed = Feed()
    reader = feed.reader()
    await anext(reader)
    for number in range(READER_PENDING_MAX + 10):
        feed.publish({"node": {"n": number}})
    message = await anext(reader)
    assert isinstance(message, SnapshotMessage)
    assert message.state["node"]["n"] == READER_PENDING_MAX + 9
    assert len(reader._pending) == 0


async def test_closed_reader_ends_and_is_forgotten() -> None:
    feed = Feed()
    reader = feed.reader()
    await anext(reader)
    waiting = asyncio.ensure_future(anext(reader, None))
    await asyncio.sleep(0)
    reader.close()
    reader.close()
    assert await waiting is None
    assert not feed._readers
