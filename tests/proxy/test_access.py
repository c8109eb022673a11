"""Who may use the API: Host, Origin and key, and what a page's preflight is told."""

import hmac
import json

import pytest

from tests.proxy.conftest import StartApi
from tests.proxy.fake_upstream import FakeUpstream

CHAT = "/v1/chat/completions"


def get(path: str, headers: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nConnection: close\r\n%b\r\n" % (path.encode(), headers)


@pytest.mark.parametrize("host", [b"localhost:9337", b"127.0.0.1", b"[::1]:9337", b"a.localhost"])
async def test_loopback_hosts_are_served(start_api: StartApi, host: bytes) -> None:
    api = await start_api()
    answer = await api.ask(get("/v1/models", b"Host: %b\r\n" % host))
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("host", [b"evil.example", b"localhost.evil.example", b"10.0.0.1:9337"])
@pytest.mark.parametrize("path", ["/v1/models", "/", "/health", "/metrics", "/nothing"])
async def test_foreign_hosts_get_421_everywhere(
    start_api: StartApi, host: bytes, path: str
) -> None:
    api = await start_api()
    answer = await api.ask(get(path, b"Host: %b\r\n" % host))
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "host_not_allowed"


async def test_configured_host_is_served(start_api: StartApi) -> None:
    api = await start_api(allowed_hosts=frozenset({"box.lan"}))
    answer = await api.ask(get("/v1/models", b"Host: box.lan:9337\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: localhost\r\n"])
async def test_no_host_or_two_hosts_get_400(start_api: StartApi, hosts: bytes) -> None:
    api = await start_api()
    assert (await api.ask(get("/v1/models", hosts))).startswith(b"HTTP/1.1 400 ")


async def test_page_of_a_foreign_origin_gets_403_and_reaches_no_engine(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine)
    status, headers, body = await api.post(CHAT, b"{}", b"Origin: https://evil.example\r\n")
    assert status == 403
    assert b"--cors-origin" in body
    assert b"access-control-allow-origin" not in headers
    assert engine.calls == []


@pytest.mark.parametrize("origin", [b"http://localhost:3131", b"http://127.0.0.1:8000"])
async def test_page_of_a_loopback_origin_may_read_the_answer(
    start_api: StartApi, engine: FakeUpstream, origin: bytes
) -> None:
    async def wide(call: object) -> None:
        await call.json(b"{}", more=b"Access-Control-Allow-Origin: *\r\n")  # type: ignore[attr-defined]

    engine.script = wide
    api = await start_api(engine)
    status, headers, _ = await api.post(CHAT, b"{}", b"Origin: %b\r\n" % origin)
    assert status == 200
    assert headers[b"access-control-allow-origin"] == origin
    assert headers[b"vary"] == b"Origin"


async def test_configured_origin_may_read_errors_too(start_api: StartApi) -> None:
    api = await start_api(cors_origins=frozenset({"https://app.example"}))
    status, headers, _ = await api.post("/v1/x", b"{}", b"Origin: https://app.example\r\n")
    assert status == 404
    assert headers[b"access-control-allow-origin"] == b"https://app.example"


async def test_preflight_is_answered_without_a_key(start_api: StartApi) -> None:
    api = await start_api(check_key=lambda key: False)
    status, headers, _ = await api.get(
        CHAT,
        b"Origin: http://localhost:1\r\nAccess-Control-Request-Method: POST\r\n"
        b"Access-Control-Request-Headers: authorization, x-stainless-os\r\n"
        b"Access-Control-Request-Private-Network: true\r\n",
        method="OPTIONS",
    )
    assert status == 204
    assert headers[b"access-control-allow-headers"] == b"authorization, x-stainless-os"
    assert headers[b"access-control-allow-private-network"] == b"true"
    assert b"POST" in headers[b"access-control-allow-methods"]


async def test_preflight_of_a_foreign_origin_gets_403(start_api: StartApi) -> None:
    api = await start_api()
    status, _, _ = await api.get(CHAT, b"Origin: https://evil.example\r\n", method="OPTIONS")
    assert status == 403


KEYED = [
    (b"", 401),
    (b"Authorization: Bearer wrong\r\n", 401),
    (b"Authorization: Basic right\r\n", 401),
    (b"Authorization: Bearer right\r\n", 200),
    (b"authorization: bearer right\r\n", 200),
    (b"x-api-key: right\r\n", 200),
    (b"x-api-key: wrong\r\n", 401),
]


@pytest.mark.parametrize(("header", "expected"), KEYED)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
async def test_key_is_asked_for_and_checked(
    start_api: StartApi, header: bytes, expected: int, path: str
) -> None:
    api = await start_api(check_key=lambda key: hmac.compare_digest(key.encode(), b"right"))
    status, headers, body = await api.get(path, header)
    assert status == expected
    if expected == 401:
        assert json.loads(body)["error"]["code"] == "invalid_api_key"
        assert headers[b"www-authenticate"] == b"Bearer"


async def test_health_needs_no_key(start_api: StartApi) -> None:
    api = await start_api(check_key=lambda key: False)
    assert (await api.get("/health"))[0] == 503


async def test_key_and_cookies_are_not_passed_to_the_engine(
    start_api: StartApi, engine: FakeUpstream
) -> None:
    api = await start_api(engine, check_key=lambda key: True)
    secrets = b"Authorization: Bearer s3cret\r\nX-Api-Key: s3cret\r\nCookie: s3cret\r\n"
    assert (await api.post(CHAT, b"{}", secrets + b"X-Kept: yes\r\n"))[0] == 200
    assert b"s3cret" not in engine.calls[0].head
    assert b"x-kept: yes" in engine.calls[0].head


@pytest.mark.parametrize(
    ("given", "returned"),
    [(b"abc-1", b"abc-1"), (b"a b", None), (b"<x>", None), (b"x" * 200, None), (b"\xff", None)],
)
async def test_request_id_is_kept_when_clean_else_made(
    start_api: StartApi, engine: FakeUpstream, given: bytes, returned: bytes | None
) -> None:
    api = await start_api(engine)
    _, headers, _ = await api.post(CHAT, b"{}", b"X-Request-Id: %b\r\n" % given)
    made = headers[b"x-request-id"]
    assert made == returned if returned else made.startswith(b"req-")
    assert b"x-request-id: %b\r\n" % made in engine.calls[0].head
