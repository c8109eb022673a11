"""Keys of a conversation: each turn finds the one before, and nothing else does."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation import ENDS_BYTES, TURNS_MAX, Conversation, conversation


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "You are terse."}


def keys(messages: Any, model: str = "tiny", field: str = "messages", **more: Any) -> Conversation:
    found = conversation(json.dumps({"model": model, field: messages, **more}).encode(), model)
    assert found is not None
    return found


def test_each_turn_finds_all_turns_before_it_the_latest_first() -> None:
    messages = [SYSTEM, user("a")]
    past: list[bytes] = []
    for turn in range(5):
        found = keys(messages)
        assert list(found.earlier) == past[::-1]
        past.append(found.key)
        messages += [answer(f"answer {turn}"), user(f"question {turn}")]


def test_first_turn_finds_nothing_so_that_equal_requests_spread() -> None:
    assert keys([SYSTEM, user("a")]).earlier == ()


def test_two_conversations_with_one_system_prompt_have_nothing_in_common() -> None:
    one = keys([SYSTEM, user("a"), answer("b"), user("c")])
    other = keys([SYSTEM, user("x"), answer("y"), user("z")])
    assert not {one.key, *one.earlier} & {other.key, *other.earlier}


def test_other_sampling_fields_do_not_change_the_keys() -> None:
    messages = [user("a"), answer("b"), user("c")]
    assert keys(messages) == keys(messages, temperature=1, stream=True, max_tokens=5)


def test_edited_last_message_still_finds_the_turn_before() -> None:
    before = keys([user("a")]).key
    assert keys([user("a"), answer("b"), user("edited")]).earlier == (before,)


def test_edited_answer_finds_only_the_turns_before_it() -> None:
    first = keys([user("a")]).key
    edited = keys([user("a"), answer("changed"), user("c"), answer("d"), user("e")])
    assert edited.earlier[-1] == first
    assert keys([user("a"), answer("b"), user("c")]).key not in edited.earlier


def test_models_do_not_share_keys() -> None:
    assert keys([user("a")], model="one").key != keys([user("a")], model="two").key


def test_tool_calls_in_a_row_are_one_turn_each() -> None:
    call = {"role": "assistant", "tool_calls": [{"id": "1"}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "42"}
    first, second = [user("a")], [user("a"), call, result]
    third = [*second, call, result]
    assert keys(second).earlier == (keys(first).key,)
    assert keys(third).earlier == (keys(second).key, keys(first).key)


def test_items_of_a_response_count_as_written_by_the_model() -> None:
    items = [
        user("a"),
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "name": "f", "call_id": "1"},
        {"type": "function_call_output", "call_id": "1", "output": "42"},
    ]
    assert keys(items, field="input").earlier == (keys([user("a")], field="input").key,)


@pytest.mark.parametrize("field", ["system", "instructions"])
def test_system_prompt_beside_the_messages_counts(field: str) -> None:
    plain, terse = keys([user("a")]), keys([user("a")], **{field: "Be terse."})
    assert plain.key != terse.key


def test_long_message_is_told_by_its_length_and_ends() -> None:
    long = "x" * (3 * ENDS_BYTES)
    whole = keys([user(long)]).key
    assert keys([user(long + "x")]).key != whole
    assert keys([user("y" + long[1:])]).key != whole
    assert keys([user(long[:-1] + "y")]).key != whole


def test_border_between_messages_counts() -> None:
    assert keys([user("a"), user("b")]).key != keys([user("b"), user("a")]).key


def test_earlier_turns_are_bounded_to_the_latest() -> None:
    messages = [user("a")]
    for turn in range(TURNS_MAX + 10):
        messages += [answer(str(turn)), user(str(turn))]
    found = keys(messages)
    assert len(found.earlier) == TURNS_MAX
    assert found.earlier[0] == keys(messages[:-2]).key


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"prompt":"a"}',
        b'{"messages":null}',
        b'{"messages":["a"]}',
        b'{"messages":[{"role":1}]}',
        b'{"input":"plain text"}',
        b'{"messages":[{"role":"user","content":"\xff"}',
    ],
)
def test_body_that_holds_no_conversation_has_no_keys(body: bytes) -> None:
    assert conversation(body, "tiny") is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_have_no_keys(body: bytes) -> None:
    found = conversation(body, "tiny")
    assert found is None or found.key


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "system", "tool"]), st.text())))
def test_keys_of_a_longer_conversation_hold_those_of_the_shorter(pairs: list) -> None:
    messages = [{"role": role, "content": text} for role, text in pairs]
    whole = keys(messages)
    for at, message in enumerate(messages):
        begins = message["role"] == "assistant" and at > 0
        if begins and messages[at - 1]["role"] != "assistant":
            assert keys(messages[:at]).key in whole.earlier or len(whole.earlier) == TURNS_MAX
