"""What the API must know of a request, and what a client sees when something fails.

PURE. `read_facts` looks at four fields and the size of a body and leaves the rest alone; `fault_answer`
is the one table from faults to status, headers and OpenAI's error object (spec, "Errors a client sees").
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import msgspec

from nodes.mesh.model_facts import Capability
from nodes.mesh.routing import AUTO, Refusal, RefusalKind, RequestNeeds

Headers = tuple[tuple[bytes, bytes], ...]

SERVED_NAMES_MAX = 50
"""Names listed in an error text; the rest is a count."""
SHOWN_NAME_MAX = 200
"""Characters of an asked name that an error text repeats."""
BYTES_PER_TOKEN = 3
"""Fewer than nearly any text has (English about 4, code 3.3), and JSON's own bytes come on top: what is
estimated of a prompt's tokens is rather too much than too little."""
CONTEXT_STEP_TOKENS = 256
"""Estimates are rounded up to this, so that routing can remember its answers."""
IMAGE_TOKENS = 1_024
"""An image's tokens, whatever its bytes."""
DATA_URLS_FROM_BYTES = 16 * 1024
"""Smaller bodies are not searched for data inside: it would change the estimate by little."""

_IMAGE_PART = re.compile(rb'"type"\s*:\s*"(?:image_url|input_image|image)"')
"""Cannot match inside a JSON string: there every quote has a backslash before it."""
_DATA = b";base64,"
_NOTHING_SPECIAL: frozenset[Capability] = frozenset()
_EMBEDDINGS = frozenset((Capability.EMBEDDINGS,))
_FORM_MODEL = re.compile(rb'name="model"\r\n(?:[^\r\n]{1,200}\r\n){0,4}\r\n([^\r\n]{0,200})\r\n')


class _Body(msgspec.Struct):
    """The fields that routing and streaming need, each kept raw until it is looked at."""

    model: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    stream: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    tools: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_DECODER = msgspec.json.Decoder(_Body)
_STRING = msgspec.json.Decoder(str)


class RequestFacts(NamedTuple):
    """What a body says about who can answer and how."""

    needs: RequestNeeds
    stream: bool


class FaultKind(Enum):
    """Every way a request can fail here: (status, error type, error code)."""

    BAD_BODY = (400, "invalid_request_error", "invalid_json")
    BAD_REQUEST = (400, "invalid_request_error", "bad_request")
    NO_KEY = (401, "invalid_request_error", "invalid_api_key")
    FOREIGN_ORIGIN = (403, "invalid_request_error", "origin_not_allowed")
    NO_ROUTE = (404, "invalid_request_error", "unknown_url")
    UNKNOWN_MODEL = (404, "invalid_request_error", "model_not_found")
    BAD_METHOD = (405, "invalid_request_error", "method_not_allowed")
    TIMED_OUT = (408, "invalid_request_error", "request_timeout")
    TOO_LARGE = (413, "invalid_request_error", "request_too_large")
    FOREIGN_HOST = (421, "invalid_request_error", "host_not_allowed")
    HEAD_TOO_LARGE = (431, "invalid_request_error", "headers_too_large")
    BROKEN = (500, "server_error", "internal_error")
    UPSTREAM_DIED = (502, "server_error", "upstream_failed")
    MODEL_LOADING = (503, "server_error", "model_loading")
    NOTHING_SERVED = (503, "server_error", "nothing_served")
    OVERLOADED = (503, "server_error", "overloaded")
    STOPPING = (503, "server_error", "node_stopping")
    UPSTREAM_SLOW = (504, "server_error", "upstream_timeout")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value[0]


@dataclass(eq=False)
class Fault(Exception):
    """A request cannot be answered. Raised anywhere, turned into an answer once, in `asgi`."""

    kind: FaultKind
    message: str
    param: str | None = None
    retry_after_s: int | None = None
    progress: float | None = None
    """0 to 1, of a model that loads."""
    phase: str = ""
    headers: Headers = ()


def read_facts(body: bytes, *, embeddings: bool = False, form: bool = False) -> RequestFacts:
    """Return what routing needs of a request body.

    Raises Fault(BAD_BODY) when it is not a JSON object, or its model is not a string.
    """
    if form:
        found = _FORM_MODEL.search(body)
        model = found.group(1).decode("utf-8", "replace") if found else None
        return RequestFacts(RequestNeeds(model or None), stream=False)
    # Each text of a batch has its own context, and the batch's size says nothing of the longest one.
    context = 0 if embeddings else prompt_tokens(body)
    fields = _decode(body)
    model = _model_name(fields.model)
    capabilities = _EMBEDDINGS if embeddings else _NOTHING_SPECIAL
    if _raw(fields.tools).strip() not in (b"", b"null", b"[]"):
        capabilities |= {Capability.TOOLS}
    # Only a choice left to the mesh asks what a model can; a search through 32 MiB is not free.
    if (model is None or model.casefold() == AUTO) and _IMAGE_PART.search(body):
        capabilities |= {Capability.VISION}
    stream = _raw(fields.stream).strip() == b"true"
    return RequestFacts(RequestNeeds(model, capabilities, context), stream)


def prompt_tokens(body: bytes) -> int:
    """Return how many tokens the body's prompt may take, rather too many than too few."""
    text, images = len(body), 0
    if text >= DATA_URLS_FROM_BYTES:
        start = body.find(_DATA)
        while start >= 0:
            end = body.find(b'"', start)
            end = end if end >= 0 else len(body)
            text -= end - start
            images += 1
            start = body.find(_DATA, end)
    steps = -(-(text // BYTES_PER_TOKEN + images * IMAGE_TOKENS) // CONTEXT_STEP_TOKENS)
    return steps * CONTEXT_STEP_TOKENS


def _decode(body: bytes) -> _Body:
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Fault(FaultKind.BAD_BODY, f"The body is not a JSON object: {error}.") from None


def _raw(field: msgspec.Raw | msgspec.UnsetType) -> bytes:
    return b"" if field is msgspec.UNSET else bytes(field)


def _model_name(field: msgspec.Raw | msgspec.UnsetType) -> str | None:
    raw = _raw(field)
    if raw in (b"", b"null"):
        return None
    try:
        return _STRING.decode(raw) or None
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = "The field 'model' must be a string: a model's name, or 'auto'."
        raise Fault(FaultKind.BAD_BODY, text, param="model") from None


def refusal_fault(refusal: Refusal, retry_after_s: int) -> Fault:
    """Return the fault that tells a client why nobody can answer."""
    asked = refusal.model[:SHOWN_NAME_MAX]
    served = _listed(refusal.served)
    match refusal.kind:
        case RefusalKind.UNKNOWN_MODEL:
            text = f"The model '{asked}' is not served by this mesh. Served now: {served}."
            return Fault(FaultKind.UNKNOWN_MODEL, text, param="model")
        case RefusalKind.AMBIGUOUS_MODEL:
            text = f"The model name '{asked}' fits several models; give more of it: {served}."
            return Fault(FaultKind.UNKNOWN_MODEL, text, param="model")
        case RefusalKind.LOADING:
            return loading_fault(asked, retry_after_s, refusal.progress, refusal.phase)
        case RefusalKind.NOTHING_SERVED:
            text = "No model is ready on this mesh. Start one with: mesh-llm --model NAME."
            return Fault(FaultKind.NOTHING_SERVED, text, retry_after_s=retry_after_s)


def loading_fault(
    model: str, retry_after_s: int, progress: float | None = None, phase: str = ""
) -> Fault:
    """Return the fault of a model that will answer soon."""
    shown = f" ({progress:.0%})" if progress is not None else ""
    text = f"The model '{model}' is still loading{shown}; try again in {retry_after_s} s."
    return Fault(
        FaultKind.MODEL_LOADING,
        text,
        retry_after_s=retry_after_s,
        progress=progress,
        phase=phase,
    )


def _listed(names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    shown = ", ".join(names[:SERVED_NAMES_MAX])
    more = len(names) - SERVED_NAMES_MAX
    return f"{shown} and {more} more" if more > 0 else shown


def error_object(fault: Fault) -> dict[str, object]:
    """Return OpenAI's error object, with progress and phase for a model that loads."""
    _, kind, code = fault.kind.value
    error: dict[str, object] = {
        "message": fault.message,
        "type": kind,
        "code": code,
        "param": fault.param,
    }
    if fault.kind is FaultKind.MODEL_LOADING:
        error["progress"] = fault.progress
        error["phase"] = fault.phase or None
    return {"error": error}


def fault_answer(fault: Fault) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return (status, headers, body) of a fault that happened before the first byte."""
    body = msgspec.json.encode(error_object(fault))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if fault.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % fault.retry_after_s))
    if fault.kind is FaultKind.NO_KEY:
        headers.append((b"www-authenticate", b"Bearer"))
    headers.extend(fault.headers)
    return fault.kind.status, headers, body


def fault_event(fault: Fault) -> bytes:
    """Return the SSE event that ends a stream that failed: the SDKs raise it as an API error."""
    return b"event: error\ndata: " + msgspec.json.encode(error_object(fault)) + b"\n\n"


class Tokens(NamedTuple):
    """What an answer says of its tokens; None: it does not say."""

    prompt: int | None
    generated: int | None


NO_TOKENS = Tokens(None, None)


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    input_tokens: int | None = None
    completion_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


class _Timings(msgspec.Struct):
    prompt_n: int | None = None
    predicted_n: int | None = None


class _Response(msgspec.Struct):
    usage: _Usage | None = None


class _Finished(msgspec.Struct):
    usage: _Usage | None = None
    timings: _Timings | None = None
    response: _Response | None = None


_FINISHED = msgspec.json.Decoder(_Finished)


def tokens_of(text: bytes | None) -> Tokens:
    """Return the tokens read and generated, as a JSON answer's usage or timings say."""
    if not text:
        return NO_TOKENS
    try:
        found = _FINISHED.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return NO_TOKENS
    usage = found.usage or (found.response.usage if found.response else None) or _Usage()
    timings = found.timings or _Timings()
    return Tokens(
        _first(usage.prompt_tokens, usage.input_tokens, timings.prompt_n),
        _first(usage.completion_tokens, usage.output_tokens, timings.predicted_n),
    )


def _first(*counts: int | None) -> int | None:
    return next((count for count in counts if count is not None), None)
