"""`proxy.openai`: what is read of a body, and the table from faults to answers."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.mesh.ids import ModelName
from nodes.mesh.model_facts import Capability
from nodes.mesh.routing import Refusal, RefusalKind
from proxy.openai import (
    Fault,
    FaultKind,
    fault_answer,
    fault_event,
    prompt_tokens,
    read_facts,
    refusal_fault,
    tokens_of,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_any_bytes_are_read_or_refused_with_400(body: bytes, embeddings: bool, form: bool) -> None:
    try:
        read_facts(body, embeddings=embeddings, form=form)
    except Fault as fault:
        assert fault.kind is FaultKind.BAD_BODY


@given(JSON, JSON, st.dictionaries(st.text(), JSON, max_size=4))
def test_any_json_object_is_read_or_its_model_refused(
    model: object, stream: object, rest: dict[str, object]
) -> None:
    body = json.dumps({**rest, "model": model, "stream": stream}).encode()
    if model is not None and not isinstance(model, str):
        with pytest.raises(Fault) as caught:
            read_facts(body)
        assert (caught.value.kind, caught.value.param) == (FaultKind.BAD_BODY, "model")
        return
    facts = read_facts(body)
    assert facts.needs.model == (model or None)
    assert facts.stream is (stream is True)


@given(st.text(max_size=60))
def test_every_model_name_is_read_as_written(name: str) -> None:
    for ascii_only in (True, False):
        text = json.dumps({"model": name}, ensure_ascii=ascii_only)
        try:
            body = text.encode()
        except UnicodeEncodeError:
            continue
        assert read_facts(body).needs.model == (name or None)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"null", b"{}x", b'{"model":1}', b"[" * 100_000, b"\xff"]
)
def test_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Fault) as caught:
        read_facts(body)
    assert caught.value.kind.status == 400


def test_deeply_nested_body_is_refused_not_fatal() -> None:
    deep = b'{"messages":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with pytest.raises(Fault):
        read_facts(deep)


@pytest.mark.parametrize(
    ("body", "needs"),
    [
        (b'{"tools":[{"type":"function"}]}', {Capability.TOOLS}),
        (b'{"tools":[]}', set()),
        (b'{"tools":null}', set()),
        (b'{"messages":[{"content":[{"type": "image_url"}]}]}', {Capability.VISION}),
        (b'{"input":[{"content":[{"type":"input_image"}]}]}', {Capability.VISION}),
        (b'{"messages":[{"content":"say \\"type\\":\\"image_url\\""}]}', set()),
        (b"{}", set()),
    ],
)
def test_needs_are_read_from_the_body(body: bytes, needs: set[Capability]) -> None:
    assert read_facts(body).needs.capabilities == needs


def test_embeddings_path_needs_embeddings() -> None:
    assert read_facts(b"{}", embeddings=True).needs.capabilities == {Capability.EMBEDDINGS}


def test_model_of_a_multipart_form_is_read() -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n\x00\r\n'
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--x--\r\n'
    )
    assert read_facts(body, form=True).needs.model == "whisper"


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_fault_becomes_openais_error_object(kind: FaultKind) -> None:
    fault = Fault(kind, 'a "message"\nwith a line', retry_after_s=3)
    status, headers, body = fault_answer(fault)
    error = json.loads(body)["error"]
    assert {"message", "type", "code", "param"} <= set(error)
    assert status == kind.status
    assert 400 <= status < 600
    assert dict(headers)[b"retry-after"] == b"3"
    lines = fault_event(fault).split(b"\n")
    assert lines[0] == b"event: error"
    assert json.loads(lines[1].removeprefix(b"data: "))["error"] == error
    assert lines[2:] == [b"", b""]


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (RefusalKind.UNKNOWN_MODEL, 404, "model_not_found"),
        (RefusalKind.AMBIGUOUS_MODEL, 404, "model_not_found"),
        (RefusalKind.NOTHING_SERVED, 503, "nothing_served"),
        (RefusalKind.LOADING, 503, "model_loading"),
    ],
)
def test_every_refusal_has_its_answer(kind: RefusalKind, status: int, code: str) -> None:
    fault = refusal_fault(Refusal(kind, "m", (ModelName("a"), ModelName("b")), 0.5), 2)
    found, headers, body = fault_answer(fault)
    assert (found, json.loads(body)["error"]["code"]) == (status, code)
    assert (b"retry-after" in dict(headers)) == (status == 503)


def test_long_names_and_lists_do_not_make_long_errors() -> None:
    served = tuple(ModelName(f"model-{n}") for n in range(1000))
    fault = refusal_fault(Refusal(RefusalKind.UNKNOWN_MODEL, "x" * 100_000, served), 2)
    assert len(fault.message) < 2000
    assert "950 more" in fault.message


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ({"usage": {"completion_tokens": 5, "total_tokens": 9}}, 5),
        ({"usage": {"output_tokens": 6}}, 6),
        ({"response": {"usage": {"output_tokens": 7}}}, 7),
        ({"timings": {"predicted_n": 8}}, 8),
        ({"usage": {"completion_tokens": 0}, "timings": {"predicted_n": 8}}, 0),
        ({"usage": None}, None),
        ({"usage": "many"}, None),
    ],
)
def test_tokens_are_read_from_every_kind_of_answer(answer: object, tokens: int | None) -> None:
    assert tokens_of(msgspec.json.encode(answer)).generated == tokens


@pytest.mark.parametrize(
    ("body_bytes", "tokens"), [(0, 0), (100, 256), (768, 256), (771, 512), (300_000, 100_096)]
)
def test_tokens_of_a_prompt_are_estimated_high_in_steps(body_bytes: int, tokens: int) -> None:
    assert prompt_tokens(b"x" * body_bytes) == tokens


@pytest.mark.parametrize(
    "text", ["a prompt in plain English, and more of it. ", "def f(x): return x\n"]
)
def test_estimate_is_above_four_bytes_a_token(text: str) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": text * 500}]}).encode()
    assert prompt_tokens(body) > len(body) / 4


def test_images_count_by_number_and_not_by_bytes() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    body = json.dumps({"messages": [{"role": "user", "content": [image, image]}]}).encode()
    assert prompt_tokens(body) == 2_304
    assert read_facts(body).needs.context == 2_304


@pytest.mark.parametrize("end", [b"", b'"', b'"}]'])
def test_cut_off_data_is_no_trap(end: bytes) -> None:
    assert prompt_tokens(b'"data:image/png;base64,' + b"A" * 40_000 + end) <= 1_280


def test_embeddings_are_not_measured_by_their_batch() -> None:
    body = json.dumps({"input": ["text"] * 10_000}).encode()
    assert read_facts(body, embeddings=True).needs.context == 0
