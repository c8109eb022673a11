"""Readers that take bytes and give a value or a typed refusal: frames, tokens, credentials, messages."""

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from nodes.mesh.ids import NodeId
from nodes.runtime import frames, identity, join_messages, mesh_key, trust_notices
from nodes.runtime.address import Address
from nodes.runtime.credentials import Credential, CredentialError, Role, issue
from nodes.runtime.frames import FrameError, FrameReader
from nodes.runtime.greeting import GreetingError, Hello, _checked
from nodes.runtime.join_messages import JoinAnswer, JoinRequest, MessageError
from nodes.runtime.token import InviteToken, is_genuine
from nodes.runtime.token_errors import TokenError
from nodes.runtime.token_ledger import TokenLedger
from nodes.runtime.trust import Trust
from nodes.runtime.trust_records import signed_revocation
from nodes.runtime.unpack import UNPACK_FAULTS
from tests.fuzz import lane_targets
from tests.fuzz.gossip_target import GossipTarget
from tests.fuzz.mutate import mutated
from tests.fuzz.request_target import RequestTarget


@dataclass
class Target:
    """One reader: `try_one` returns True when it accepted what it must not."""

    name: str
    weight: int
    try_one: Callable[[random.Random], bool]
    counters: Callable[[], dict[str, int]] = dict
    """What it refused so far, by name."""


def byte_targets() -> list[Target]:
    """Return the readers, with valid inputs to start from."""
    key, who = mesh_key.new_mesh(), identity.ephemeral()
    token = TokenLedger(None).issue(
        key, who.node_id, [Address("10.0.0.1", 5), Address("box.lan", 6)], lifetime_s=3600
    )
    credential = issue(key, who.node_id, Role.MEMBER, time.time()).encode()
    trust = Trust(who, key)
    gossip = GossipTarget(random.Random(7))
    requests = RequestTarget()
    return [
        Target("frames", 30, _frames),
        Target("tokens", 15, lambda dice: _token(key, token.encode(), dice)),
        Target("credentials", 10, lambda dice: _credential(credential, dice)),
        Target("messages", 15, lambda dice: _messages(token, credential, dice)),
        Target("notices", 5, lambda dice: _notice(trust, dice)),
        Target("request heads", 15, requests.heads),
        Target("client tables", 5, requests.tables),
        Target("gossip", 52, gossip.try_one, lambda: gossip.node.counters),
        Target("lane frames", 10, lane_targets.try_lane_frames),
        Target("rpc requests", 10, lane_targets.try_rpc),
        Target("tunnel words", 10, lane_targets.try_words),
    ]


_STREAM = b"".join(
    frames.encode(frame)
    for frame in (
        frames.Open("request"),
        frames.Data(b"x" * 100),
        frames.Credit(1000),
        frames.Data(b"y" * 300),
        frames.Abort(3, "reason"),
        frames.End(),
    )
)


def _frames(dice: random.Random) -> bool:
    """Anything well-formed may pass; what is held stays small."""
    reader = FrameReader(expects_open=True)
    content = mutated(_STREAM, dice)
    cut = dice.randrange(len(content))
    with contextlib.suppress(FrameError):
        reader.feed(content[:cut])
        reader.feed(content[cut:])
    return len(reader._held) > frames.HEADER_BYTES + 2 + frames.MAX_REASON_BYTES


def _token(key: mesh_key.MeshKey, text: str, dice: random.Random) -> bool:
    changed = mutated(text.encode(), dice).decode("latin-1")
    try:
        token = InviteToken.decode(changed)
    except TokenError:
        return False
    # White space and quotes around a token do not matter; anything else that passes is a finding.
    return is_genuine(key, token) and "".join(changed.split()).strip("\"'`<>,;=") != text


def _credential(content: bytes, dice: random.Random) -> bool:
    try:
        Credential.decode(mutated(content, dice))
    except CredentialError:
        return False
    return True


def _messages(token: InviteToken, credential: bytes, dice: random.Random) -> bool:
    request = msgspec.msgpack.encode(JoinRequest(token=token.encode(), name="box"))
    answer = msgspec.msgpack.encode(JoinAnswer(credential=credential, epoch=1, seed=b"s" * 32))
    hello = msgspec.msgpack.encode(Hello(instance=b"12345678", listen_port=7))
    with contextlib.suppress(MessageError):
        join_messages.decode_request(mutated(request, dice))
    with contextlib.suppress(MessageError):
        join_messages.decode_answer(mutated(answer, dice))
    with contextlib.suppress(GreetingError):
        _checked(mutated(hello, dice))
    return False


def _notice(trust: Trust, dice: random.Random) -> bool:
    assert trust.mesh_key is not None
    record = signed_revocation(trust.mesh_key, NodeId("ab" * 32), 1_700_000_000)
    topic, version, body = trust_notices.revocation_notice(record)
    changed = mutated(body, dice)
    with contextlib.suppress(*UNPACK_FAULTS):
        if msgspec.msgpack.decode(changed, type=type(record)) == record:
            return False
    return trust_notices.accept_notice(trust, topic, version, changed)
