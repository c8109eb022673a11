"""The command line's door on the API port."""

import json
from typing import Any

import pytest

from meshsite.control import BODY_MAX_BYTES, ControlApp
from nodes.runtime.handle import OperatorResult

SECRET = "s3cret"


class Operator:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def drop(self, model: str) -> OperatorResult:
        self.asked.append(("drop", model))
        return OperatorResult(True, "dropped")

    async def load(self, model: str) -> OperatorResult:
        self.asked.append(("load", model))
        return OperatorResult(False, "no such model")

    async def restart(self, model: str) -> OperatorResult:
        self.asked.append(("restart", model))
        return OperatorResult(True, "restarted")

    async def stop(self) -> OperatorResult:
        self.asked.append(("stop", ""))
        return OperatorResult(True, "stopping")


class Handle:
    home_secret = SECRET

    def __init__(self) -> None:
        self.operator = Operator()

    def status(self, operator: bool) -> dict[str, Any]:
        return {"operator": operator}


class Api:
    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])


async def ask(
    path: str, body: bytes | None = None, secret: str = SECRET, handle: Any = None
) -> tuple[int, Any, Api]:
    api = Api()
    app = ControlApp(api, handle or Handle())  # type: ignore[arg-type]
    scope = {
        "type": "http",
        "method": "GET" if body is None else "POST",
        "path": path,
        "headers": [(b"authorization", b"Bearer " + secret.encode())],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body or b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return (sent[0]["status"], json.loads(sent[1]["body"]), api) if sent else (0, None, api)


async def test_other_paths_go_to_the_api_untouched() -> None:
    status, _, api = await ask("/v1/models", secret="wrong")
    assert (status, api.paths) == (0, ["/v1/models"])


async def test_holder_of_the_secret_sees_the_operators_status() -> None:
    assert (await ask("/mesh/status"))[:2] == (200, {"operator": True})


@pytest.mark.parametrize("secret", ["", "wrong", SECRET + "x"])
async def test_everybody_else_is_refused_before_anything_happens(secret: str) -> None:
    handle = Handle()
    status, _, _ = await ask("/mesh/stop", b"{}", secret, handle)
    assert status == 403
    assert handle.operator.asked == []


async def test_actions_answer_with_the_true_outcome() -> None:
    handle = Handle()
    assert (await ask("/mesh/drop", b'{"model": "m"}', handle=handle))[0] == 200
    status, said, _ = await ask("/mesh/load", b'{"model": "x"}', handle=handle)
    assert (status, said) == (409, {"ok": False, "outcome": "refused", "text": "no such model"})
    assert handle.operator.asked == [("drop", "m"), ("load", "x")]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/mesh/drop", b"[]", 400),
        ("/mesh/drop", b"not json", 400),
        ("/mesh/drop", b" " * (BODY_MAX_BYTES + 1), 400),
        ("/mesh/nothing", b"{}", 404),
        ("/mesh/drop", None, 405),
    ],
)
async def test_malformed_requests_are_refused(path: str, body: bytes | None, status: int) -> None:
    assert (await ask(path, body))[0] == status
