"""Which Host and Origin headers are ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.runtime.web_guard import host_allowed, is_loopback, origin_allowed, split_host


@pytest.mark.parametrize(
    "header",
    [
        "localhost",
        "localhost:9337",
        "LOCALHOST",
        "127.0.0.1:1",
        "[::1]:9337",
        "127.9.9.9",
        "a.localhost",
    ],
)
def test_loopback_hosts_are_always_allowed(header: str) -> None:
    assert host_allowed(header, ())


@pytest.mark.parametrize(
    "header",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example#localhost",
     "localhost@evil.example", "evil.example/localhost", "10.0.0.1", "localhost evil", "[::1"],
)  # fmt: skip
def test_other_and_malformed_hosts_are_refused(header: str) -> None:
    assert not host_allowed(header, ())


def test_configured_names_are_allowed_with_any_port() -> None:
    assert host_allowed("box.lan:9337", ["box.lan"])
    assert not host_allowed("other.lan", ["box.lan"])
    assert host_allowed("anything.example", ["*"])


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://localhost:3131", True),
        ("http://127.0.0.1:8000", True),
        ("https://box.lan", True),
        ("http://evil.example", False),
        ("null", False),
        ("file://", False),
        ("http://localhost.evil.example", False),
    ],
)
def test_origins_that_may_read(origin: str | None, allowed: bool) -> None:
    assert origin_allowed(origin, "box.lan", ()) is allowed


def test_extra_origins_are_exact() -> None:
    assert origin_allowed("https://app.example", "localhost", ["https://app.example"])
    assert not origin_allowed("https://app.example:444", "localhost", ["https://app.example"])
    assert origin_allowed("https://any.example", "localhost", ["*"])


@given(st.text(max_size=80))
def test_no_header_text_breaks_the_check(text: str) -> None:
    host = split_host(text)
    assert host_allowed(text, ()) == (bool(host) and is_loopback(host))
    origin_allowed(text, text, ())
