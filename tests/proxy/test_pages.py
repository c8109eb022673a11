"""The API's own answers: models, health, metrics, the hint, and what is not there."""

import json
from dataclasses import replace

import pytest

from nodes.mesh.routing import ModelState
from tests.proxy.conftest import StartApi, upstream
from tests.proxy.fake_upstream import FakeUpstream


async def test_models_are_listed_once_they_can_answer(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    api.upstreams.append(upstream(1, model="later", state=ModelState.LOADING))
    api.upstreams.append(upstream(engine.port, node="cd" * 32))
    status, _, body = await api.get("/v1/models")
    listed = json.loads(body)
    assert status == 200
    assert [m["id"] for m in listed["data"]] == ["demo"]
    assert listed["data"][0]["object"] == "model"
    assert isinstance(listed["data"][0]["created"], int)


@pytest.mark.parametrize(
    ("asked", "status"), [("demo", 200), ("DEMO", 200), ("dem", 200), ("x", 404)]
)
async def test_one_model_is_found_as_requests_find_it(
    start_api: StartApi, engine: FakeUpstream, asked: str, status: int
) -> None:
    api = await start_api(engine)
    found, _, body = await api.get(f"/v1/models/{asked}")
    assert found == status
    if status == 200:
        assert json.loads(body)["id"] == "demo"
    else:
        error = json.loads(body)["error"]
        assert error["code"] == "model_not_found"
        assert "demo" in error["message"]


async def test_model_name_with_slashes_and_escapes_is_found(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api()
    api.upstreams.append(upstream(engine.port, model="org/näme"))
    status, _, body = await api.get("/v1/models/org%2Fn%C3%A4me")
    assert (status, json.loads(body)["id"]) == (200, "org/näme")


async def test_health_tells_ready_loading_and_nothing(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api()
    status, headers, body = await api.get("/health")
    assert (status, json.loads(body)["status"]) == (503, "no_model")
    api.upstreams.append(upstream(1, state=ModelState.LOADING, progress=0.5, phase="loading"))
    status, headers, body = await api.get("/health")
    assert (status, json.loads(body)["status"], json.loads(body)["progress"]) == (
        503,
        "loading",
        0.5,
    )
    assert b"retry-after" in headers
    api.upstreams[0] = upstream(1)
    status, _, body = await api.get("/v1/health")
    assert (status, json.loads(body)["status"]) == (200, "ok")


async def test_loading_model_gives_503_with_progress(start_api: StartApi) -> None:
    api = await start_api()
    api.upstreams.append(upstream(1, state=ModelState.LOADING, progress=0.25, phase="loading"))
    for body in (b'{"model":"demo"}', b"{}"):
        status, headers, answer = await api.post("/v1/chat/completions", body)
        error = json.loads(answer)["error"]
        assert (status, error["code"]) == (503, "model_loading")
        assert (error["progress"], error["phase"]) == (0.25, "loading")
        assert int(headers[b"retry-after"]) > 0


async def test_nothing_served_gives_503_with_retry_after(start_api: StartApi) -> None:
    api = await start_api()
    status, headers, answer = await api.post("/v1/chat/completions", b'{"model":"x"}')
    assert (status, json.loads(answer)["error"]["code"]) == (503, "nothing_served")
    assert b"retry-after" in headers


async def test_unknown_model_gives_404_with_what_is_served(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    status, _, answer = await api.post("/v1/chat/completions", b'{"model":"nope"}')
    error = json.loads(answer)["error"]
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "demo" in error["message"]


@pytest.mark.parametrize(
    "path",
    [
        *("/props", "/slots", "/completion", "/tokenize", "/infill", "/v1", "/v1/", "/v1/props"),
        *(
            "/v1/../props",
            "/v1/%2e%2e/props",
            "//v1/models",
            "/v1/chat/completions/",
            "/v1//models",
        ),
    ],
)
async def test_everything_else_is_404_and_reaches_no_engine(
    start_api: StartApi, engine: FakeUpstream, path: str
) -> None:
    api = await start_api(engine)
    for status, _, answer in (await api.get(path), await api.post(path, b"{}")):
        assert status == 404
        assert json.loads(answer)["error"]["code"] == "unknown_url"
    assert engine.calls == []


async def test_wrong_method_is_405_with_allow(start_api: StartApi, engine: FakeUpstream) -> None:
    api = await start_api(engine)
    status, headers, _ = await api.get("/v1/chat/completions")
    assert (status, headers[b"allow"]) == (405, b"POST, OPTIONS")


async def test_metrics_never_take_a_clients_words_as_labels(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    await api.post("/v1/chat/completions", b'{"model":"invented-name"}')
    await api.post("/v1/chat/completions", b'{"model":"demo"}')
    await api.post("/v1/invented-path", b"{}")
    _, _, body = await api.get("/metrics")
    assert b'model="demo",outcome="answered",path="/v1/chat/completions",status="200"} 1.0' in body
    assert b"invented" not in body
    assert b"mesh_llm_requests_in_flight 0.0" in body


async def test_hint_names_the_api(start_api: StartApi) -> None:
    api = await start_api()
    status, _, body = await api.get("/")
    assert (status, json.loads(body)["api"]) == (200, "/v1")


async def test_draining_model_takes_no_new_requests(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    api.upstreams[0] = replace(api.upstreams[0], state=ModelState.DRAINING)
    assert (await api.post("/v1/chat/completions", b'{"model":"demo"}'))[0] == 503
