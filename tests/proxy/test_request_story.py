"""What became of a request, as a document and in sentences."""

import asyncio
import json
from typing import Any

import pytest

from proxy import request_story
from proxy.records import TEXT_MAX, Outcome, RequestRecord
from proxy.request_story import STORIES_MAX, stories
from tests.proxy.conftest import Api, StartApi, eventually, post
from tests.proxy.fake_upstream import Call, FakeUpstream, event, stream_ok
from tests.proxy.test_load_and_metrics import RECORD

CHAT = "/v1/chat/completions"
BODY = b'{"model":"demo","stream":true}'
FIRST, SECOND = "01" * 6, "02" * 6


async def die(call: Call) -> None:
    call.cut()


async def told(api: Api, count: int = 1) -> dict[str, Any]:
    """Return the newest story once so many requests have ended."""
    await eventually(lambda: len(api.records) >= count)
    return api.app.requests()[0]


async def test_answered_request_of_a_single_host(start_api: StartApi, engine: FakeUpstream) -> None:
    api = await start_api(engine)
    await api.post(CHAT, b'{"model":"DEM"}', b"X-Request-Id: mine-1\r\n")
    story = await told(api)
    assert story["text"][:2] == [
        f"{CHAT} was asked for 'DEM', which means 'demo'.",
        f"{FIRST} was asked: nobody else serves the model.",
    ]
    assert story["text"][2].startswith(f"{FIRST} answered with status 200 after ")
    assert (story["id"], story["outcome"], story["tokens"]) == ("mine-1", "answered", 7)
    (candidate,) = story["candidates"]
    assert (candidate["node"], candidate["reason"]) == ("01" * 32, "only")


async def test_retry_is_told_with_its_reason_and_the_order_with_its_figures(
    start_api: StartApi, engine: FakeUpstream, other_engine: FakeUpstream
) -> None:
    engine.script, other_engine.script = die, stream_ok
    api = await start_api(engine, other_engine)
    await api.post(CHAT, BODY)
    story = await told(api)
    _, chosen, tried, end = story["text"]
    assert chosen.startswith(f"{FIRST} was asked first: by load. In this order: {FIRST} (0 of 32 ")
    assert tried.startswith(f"{FIRST} closed the connection before it had answered (")
    assert end.startswith(f"{SECOND} answered with status 200")
    assert [try_["node"] for try_ in story["tries"]] == ["01" * 32]
    first, second = story["candidates"]
    assert first["pressure"] < second["pressure"]


async def test_refused_request_says_what_the_client_was_told(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    _, _, body = await api.post(CHAT, b'{"model":"gpt-4o"}')
    story = await told(api)
    assert story["candidates"] == story["tries"] == []
    assert story["fault"] == json.loads(body)["error"]["message"]
    assert story["text"] == [
        f"{CHAT} was asked for 'gpt-4o'.",
        f"It was answered with an error, status 404: {story['fault']}",
    ]


async def test_request_that_no_host_could_answer_names_them_all(
    start_api: StartApi, engine: FakeUpstream, other_engine: FakeUpstream
) -> None:
    engine.script = other_engine.script = die
    api = await start_api(engine, other_engine)
    status, _, body = await api.post(CHAT, BODY)
    story = await told(api)
    assert status == 502
    message = json.loads(body)["error"]["message"]
    assert FIRST in message and SECOND in message
    assert len(story["tries"]) == 2
    assert message in story["text"][-1]


async def test_answer_that_broke_off_is_told_as_such(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    async def midway(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(event(0))
        await asyncio.sleep(0.05)
        call.cut()

    engine.script = midway
    api = await start_api(engine)
    await api.post(CHAT, BODY)
    end = (await told(api))["text"][-1]
    assert f"The answer of {FIRST} broke off after " in end
    assert "failed in the middle of the answer" in end


async def test_client_that_left_is_told_as_such(start_api: StartApi, engine: FakeUpstream) -> None:
    async def waits(call: Call) -> None:
        await call.client_gone()

    engine.script = waits
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post(CHAT, BODY))
    await eventually(lambda: engine.calls)
    client.close()
    assert (await told(api))["text"][-1].startswith("The client left after ")


async def test_request_is_found_by_its_id(start_api: StartApi, engine: FakeUpstream) -> None:
    api = await start_api(engine)
    for number in range(3):
        await api.post(CHAT, BODY, b"X-Request-Id: mine-%d\r\n" % number)
    await told(api, 3)
    assert [s["id"] for s in api.app.requests()] == ["mine-2", "mine-1", "mine-0"]
    assert [s["id"] for s in api.app.requests(request_id="mine-1")] == ["mine-1"]
    assert [s["id"] for s in api.app.requests(2)] == ["mine-2", "mine-1"]
    assert api.app.requests(request_id="unknown") == []


async def test_made_up_names_do_not_fill_the_memory(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    await api.post(CHAT, json.dumps({"model": "x" * 100_000}).encode())
    story = await told(api)
    assert len(story["asked"]) <= TEXT_MAX
    assert len(story["fault"]) <= TEXT_MAX


def test_number_of_documents_is_bounded() -> None:
    assert len(stories([RECORD] * 500, limit=10_000)) == STORIES_MAX


@pytest.mark.parametrize("outcome", list(Outcome))
def test_bare_record_of_any_outcome_is_told(outcome: Outcome) -> None:
    record = RequestRecord("r", CHAT, "", "n" * 64, 0, False, None, 5.0, 0, outcome, 0)
    story = request_story.story(record)
    assert json.dumps(story)
    assert len(story["text"]) == 2


def test_request_of_a_peer_names_the_peer() -> None:
    record = RequestRecord(
        "r", CHAT, "demo", "n" * 64, 200, True, 5.0, 9.0, 3, Outcome.ANSWERED, 0, asked_by="p" * 64
    )
    assert (
        request_story.sentences(record)[0] == f"{CHAT} was asked by node pppppppppppp for 'demo'."
    )
