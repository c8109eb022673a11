"""A whole node through the OpenAI SDK, as a user's code sees it."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from models_registry.demo import demo_path
from tests.e2e.node_process import NodeProcess

pytestmark = [pytest.mark.e2e, pytest.mark.engine]

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is a mesh?"}]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, engine_dir: Path) -> Iterator[NodeProcess]:
    home = tmp_path_factory.mktemp("sdk") / "home"
    with NodeProcess(home, engine=engine_dir) as started:
        yield started


@pytest.fixture
def client(node: NodeProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{node.api}/v1", api_key="none", max_retries=0, timeout=60)


def test_chat_answers_in_one_piece_with_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="auto", messages=QUESTION, temperature=0)
    assert "machines" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 5
    assert answer.model == demo_path().stem


def test_stream_has_the_same_text_as_the_whole_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="auto", messages=QUESTION, temperature=0)
    with client.chat.completions.create(
        model="auto", messages=QUESTION, temperature=0, stream=True
    ) as stream:
        pieces = [c.choices[0].delta.content or "" for c in stream if c.choices]
    assert len(pieces) > 5
    assert "".join(pieces) == whole.choices[0].message.content


def test_models_lists_the_demo_and_retrieves_it_by_id(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == demo_path().stem
    assert client.models.retrieve(model.id).id == model.id


def test_completions_logprobs_and_several_choices_pass_through(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="auto", prompt="A mesh is", max_tokens=4, logprobs=2)
    assert answer.choices[0].logprobs is not None
    several = client.chat.completions.create(
        model="auto", messages=QUESTION, n=2, max_tokens=4, temperature=1
    )
    assert len(several.choices) == 2


def test_json_schema_is_obeyed(client: openai.OpenAI) -> None:
    import json

    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="auto",
        messages=QUESTION,
        max_tokens=40,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
    )
    assert set(json.loads(answer.choices[0].message.content or "")) == {"ok"}


def test_a_tools_schema_is_taken_and_the_answer_is_of_the_sdks_shape(
    client: openai.OpenAI,
) -> None:
    tool: ChatCompletionToolParam = {
        "type": "function",
        "function": {
            "name": "count",
            "description": "Count peers.",
            "parameters": {
                "type": "object",
                "properties": {"even": {"type": "boolean"}},
                "required": ["even"],
            },
        },
    }
    answer = client.chat.completions.create(
        model="auto", messages=QUESTION, tools=[tool], max_tokens=80
    )
    message = answer.choices[0].message
    assert message.tool_calls or message.content
    with pytest.raises(openai.APIStatusError):
        client.chat.completions.create(
            model="auto",
            messages=QUESTION,
            max_tokens=5,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "b", "schema": {"type": "nonsense"}},
            },
        )


def test_embeddings_have_the_models_width(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="auto", input=["a mesh", "a peer"])
    assert len(answer.data) == 2
    assert len(answer.data[0].embedding) == len(answer.data[1].embedding) > 8


def test_responses_api_answers(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="auto", input="What is a mesh?", max_output_tokens=40)
    assert "mesh" in answer.output_text.lower()


def test_unknown_model_is_the_sdks_not_found_with_what_is_served(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert caught.value.code == "model_not_found"
    assert demo_path().stem in caught.value.message


def test_too_long_prompt_is_the_sdks_bad_request(client: openai.OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "mesh " * 20_000}]
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="auto", messages=messages)


def test_key_is_asked_for_where_one_was_set(home: Path, engine_dir: Path) -> None:
    with NodeProcess(home, engine=engine_dir, until="open", MESH_LLM_API_KEY="right") as node:
        wrong = openai.OpenAI(base_url=f"{node.api}/v1", api_key="wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            wrong.models.list()
        right = openai.OpenAI(base_url=f"{node.api}/v1", api_key="right")
        node.wait_for(lambda: right.models.list().data, "a model")
