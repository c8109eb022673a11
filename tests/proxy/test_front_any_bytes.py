"""Any bytes, in any pieces: a proper request is read as it was sent, anything else is one Fault."""

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.front_parser import RequestHead, RequestParser
from proxy.openai import Fault

LIMIT_BYTES = 2048


@dataclass
class Seen:
    """What the parser told."""

    heads: list[RequestHead] = field(default_factory=list)
    body: bytes = b""
    ended: int = 0

    def request_began(self, head: RequestHead) -> None:
        self.heads.append(head)

    def request_body(self, data: bytes) -> None:
        self.body += data

    def request_ended(self) -> None:
        self.ended += 1


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in pairwise(at)]


def fed(data: bytes, cuts: list[int]) -> tuple[Seen, Fault | None]:
    seen = Seen()
    parser = RequestParser(seen, LIMIT_BYTES, lambda: 0.0)
    try:
        for piece in pieces(data, cuts):
            if not parser.feed(piece):
                break
    except Fault as fault:
        return seen, fault
    finally:
        parser.close()
    return seen, None


cuts_of = st.lists(st.integers(0, 10_000), max_size=12)
token = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=600), cuts=cuts_of)
def test_arbitrary_bytes_are_a_fault_or_wait_for_more_and_nothing_else(
    data: bytes, cuts: list[int]
) -> None:
    seen, fault = fed(data, cuts)
    if fault is not None:
        assert 400 <= fault.kind.status < 600
    assert seen.ended <= len(seen.heads)


@settings(max_examples=200, deadline=None)
@given(
    path=token,
    headers=st.dictionaries(token.map("x-{}".format), token, max_size=6),
    body=st.binary(max_size=300),
    chunked=st.booleans(),
    cuts=cuts_of,
)
def test_proper_request_is_read_the_same_however_it_is_cut(
    path: str, headers: dict[str, str], body: bytes, chunked: bool, cuts: list[int]
) -> None:
    lines = [f"POST /v1/{path} HTTP/1.1", "host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if chunked:
        lines.append("transfer-encoding: chunked")
        sent = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    else:
        lines.append(f"content-length: {len(body)}")
        sent = body
    seen, fault = fed("\r\n".join(lines).encode() + b"\r\n\r\n" + sent, cuts)
    assert fault is None
    (head,) = seen.heads
    assert (seen.body, seen.ended) == (body, 1)
    assert head.scope["path"] == f"/v1/{path}"
    told = dict(head.scope["headers"])
    assert all(told[name.encode()] == value.encode() for name, value in headers.items())


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 400), put=st.binary(min_size=1, max_size=3), cuts=cuts_of)
def test_proper_request_with_bytes_changed_never_smuggles_a_second_one(
    at: int, put: bytes, cuts: list[int]
) -> None:
    whole = b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello"
    at %= len(whole)
    seen, _ = fed(whole[:at] + put + whole[at + len(put) :], cuts)
    assert len(seen.heads) <= 1 or seen.heads[1].scope["path"] != "/v1/x"


@settings(max_examples=50, deadline=None)
@given(extra=st.integers(1, 4000), cuts=cuts_of)
def test_head_beyond_the_limit_is_refused_whatever_its_pieces(extra: int, cuts: list[int]) -> None:
    data = b"GET / HTTP/1.1\r\nhost: x\r\nx-pad: " + b"a" * (LIMIT_BYTES + extra) + b"\r\n\r\n"
    seen, fault = fed(data, cuts)
    assert fault is not None
    assert fault.kind.status == 431
    assert not seen.heads
