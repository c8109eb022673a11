"""A real engine with a draft model: what it guesses is reported, and its memory is within what is planned."""

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from models_registry.demo import demo_path
from models_registry.gguf_header import read_facts
from models_registry.supervision.engine_http import ask
from nodes.mesh.events import ServerDrafted, ServerReady
from nodes.mesh.fit import memory_needed
from nodes.mesh.ids import RunId
from nodes.mesh.plans import ServerPlan
from tests.models_registry.real_engine import real_engine
from tests.models_registry.supervising import supervising

pytestmark = pytest.mark.engine

QUESTION = {"messages": [{"role": "user", "content": "What is a mesh?"}], "temperature": 0}


def drafted(model: Path, draft: Path) -> ServerPlan:
    return ServerPlan(
        RunId(1), read_facts(model), context=1024, parallel=2, draft=read_facts(draft), draft_max=4
    )


async def test_what_a_good_draft_guesses_is_reported_after_an_answer(tmp_path: Path) -> None:
    async with supervising(real_engine(), tmp_path) as (supervisor, reports):
        await supervisor.start(drafted(demo_path(), demo_path()))
        ready = await reports.wait_for(ServerReady)
        answer = await ask(ready.port, "/v1/responses", {"input": "What is a mesh?"}, deadline_s=30)
        assert answer.status == 200
        supervisor.note_activity("mesh-demo")
        told = await reports.wait_for(ServerDrafted)
        assert told.run_id == RunId(1)
        assert told.guessed >= 8
        assert told.guessed // 2 < told.accepted <= told.guessed, "it drafts for itself"


async def test_guesses_of_another_model_change_nothing_of_the_answer(
    tmp_path: Path, tiny_model: Path, draft_model: Path
) -> None:
    said = []
    for name, plan in (
        ("with", drafted(tiny_model, draft_model)),
        ("without", replace(drafted(tiny_model, draft_model), draft=None)),
    ):
        async with supervising(real_engine(), tmp_path / name) as (supervisor, reports):
            await supervisor.start(plan)
            ready = await reports.wait_for(ServerReady)
            answer = await ask(
                ready.port, "/v1/chat/completions", QUESTION | {"max_tokens": 64}, deadline_s=30
            )
            found = answer.json()
            said.append(found["choices"][0]["message"]["content"])
            assert (found["timings"].get("draft_n", 0) > 0) == (name == "with")
    assert said[0] == said[1]


async def test_model_and_draft_stay_within_what_was_planned_for_both(
    tmp_path: Path, tiny_model: Path, draft_model: Path
) -> None:
    plan = drafted(tiny_model, draft_model)
    assert plan.draft is not None
    need = memory_needed(plan.model, plan.context, plan.parallel, plan.draft)
    alone = memory_needed(plan.model, plan.context, plan.parallel, None)
    async with supervising(real_engine(), tmp_path) as (supervisor, reports):
        await supervisor.start(plan)
        ready = await reports.wait_for(ServerReady)
        await ask(ready.port, "/v1/chat/completions", QUESTION | {"max_tokens": 64}, deadline_s=30)
        assert psutil.Process(ready.pid).memory_info().rss <= need.total_bytes
    assert need.total_bytes >= alone.total_bytes + plan.draft.size_bytes
