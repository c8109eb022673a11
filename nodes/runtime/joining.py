"""The joining side: a token in, a place in the mesh out. Shows its secret only to a proven member.

Decides whom to believe: only a full member under the very mesh key that the token names, proven in the
handshake, is given the secret. Which token is tried first is the caller's order; the first that works
wins. Nothing is kept here: the caller saves key and credential.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aioquic.quic.connection import QuicConnection

from nodes.mesh.ids import NodeId
from nodes.runtime import dialer, join_messages, mesh_key
from nodes.runtime.address import Address
from nodes.runtime.connection import CLOSE_NORMAL, PeerConnection
from nodes.runtime.counters import Counters
from nodes.runtime.credentials import Credential, CredentialError, Role, certificate_for
from nodes.runtime.dial_errors import AttemptError, DialError
from nodes.runtime.identity import Identity
from nodes.runtime.join_messages import JOIN_KIND, JoinAnswer, JoinRequest, KnownMember
from nodes.runtime.mesh_key import MeshKey, MeshKeyError
from nodes.runtime.streams import AbortCode, Stream, StreamAbortedError
from nodes.runtime.token import InviteToken
from nodes.runtime.token_errors import BY_CODE, TokenError
from nodes.runtime.transport_settings import ALPN_JOIN, TransportSettings, client_configuration
from nodes.runtime.trust_records import Revocation


class JoinError(Exception):
    """No member let this node in. The text is for a person; `causes` has one error for each token."""

    def __init__(self, causes: Sequence[Exception]) -> None:
        self.causes = tuple(causes)
        super().__init__("; ".join(str(cause) for cause in causes) or "no invite token was given")


class MemberUnreachableError(ConnectionError):
    """Nobody of the mesh answered at the token's addresses."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A place in a mesh."""

    credential: Credential
    mesh_key: MeshKey | None
    """None for a client."""
    member_id: NodeId
    """Who let this node in."""
    members: tuple[KnownMember, ...]
    revocations: tuple[Revocation, ...]


class _JoinOwner:
    """Hears of the connections of one join."""

    def __init__(self) -> None:
        self.waiting: dict[PeerConnection, asyncio.Future[None]] = {}

    def proven(self, connection: PeerConnection) -> None:
        waiting = self.waiting.pop(connection, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def ended(self, connection: PeerConnection, reason: str) -> None:
        waiting = self.waiting.pop(connection, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(AttemptError(reason))

    def stream_accepted(self, connection: PeerConnection, stream: Stream) -> None:
        stream.abort(AbortCode.REFUSED, "nothing is served while joining")

    def datagram_received(self, connection: PeerConnection, content: bytes) -> None:
        """Ignore: nothing is sent in datagrams here."""


async def join_first(
    who: Identity,
    tokens: Sequence[InviteToken],
    role: Role,
    now_s: float,
    *,
    name: str = "",
    software: str = "",
    settings: TransportSettings | None = None,
) -> Joined:
    """Return the place in the first mesh that lets this node in, trying the tokens in their order.

    Raises:
        JoinError: none did; it says why for each.
    """
    causes: list[Exception] = []
    for token in tokens:
        try:
            token.check(who.node_id, now_s)
            return await join(
                who, token, role, now_s, name=name, software=software, settings=settings
            )
        except (TokenError, MemberUnreachableError) as error:
            causes.append(error)
    raise JoinError(causes)


async def join(
    who: Identity,
    token: InviteToken,
    role: Role,
    now_s: float,
    *,
    name: str = "",
    software: str = "",
    settings: TransportSettings | None = None,
) -> Joined:
    """Return the place in the mesh that `token` leads to.

    Raises:
        TokenError: a member answered and does not accept the token; the subclass says why.
        MemberUnreachableError: no member of that mesh could be reached, or it failed half-way.
    """
    settings = settings or TransportSettings()
    connection = await _connected(who, token, now_s, settings)
    request = JoinRequest(
        token=token.encode(), client=role is Role.CLIENT, name=name[:128], software=software[:128]
    )
    try:
        stream = connection.open_stream(JOIN_KIND)
        await stream.write(join_messages.encode(request))
        stream.end()
        content = await stream.read_all(join_messages.ANSWER_MAX_BYTES, settings.join_timeout_s)
        answer = join_messages.decode_answer(content)
        return _joined(who, token, role, connection.peer_id, answer)
    except (StreamAbortedError, join_messages.MessageError, CredentialError, MeshKeyError) as error:
        raise MemberUnreachableError(
            f"the member {connection.peer_id[:12]} answered but the join failed half-way ({error}): "
            "try again, and compare the versions of mesh-llm."
        ) from error
    finally:
        connection.end(CLOSE_NORMAL, "joined")


async def _connected(
    who: Identity, token: InviteToken, now_s: float, settings: TransportSettings
) -> PeerConnection:
    owner = _JoinOwner()
    counters = Counters()
    configuration = client_configuration(who, certificate_for(who, None), settings, ALPN_JOIN)

    def admission(node_id: NodeId, credential: Credential | None, alpn: str) -> None:
        if credential is None:
            raise CredentialError("no_credential")
        if credential.mesh_id != token.mesh_id:
            raise CredentialError("other_mesh")
        if credential.key_fingerprint != token.key_fingerprint:
            raise CredentialError("other_key")
        if credential.role is not Role.MEMBER:
            raise CredentialError("not_a_member")
        credential.check_time(now_s)

    def make(quic: QuicConnection) -> tuple[PeerConnection, "asyncio.Future[None]"]:
        connection = PeerConnection(quic, owner, admission, settings, counters)
        proven = asyncio.get_running_loop().create_future()
        owner.waiting[connection] = proven
        return connection, proven

    async def attempt(address: Address) -> PeerConnection:
        return await dialer.connect(address, configuration, make)

    try:
        places = await dialer.resolved(token.addresses)
        return await dialer.dial_any(
            places, attempt, settings.dial_stagger_s, settings.dial_timeout_s
        )
    except DialError as error:
        raise MemberUnreachableError(
            f"no member of the mesh answered ({error}): is it running, and do its UDP port and this "
            "machine's network let QUIC through?"
        ) from error


def _joined(
    who: Identity, token: InviteToken, role: Role, member_id: NodeId, answer: JoinAnswer
) -> Joined:
    """Return what an answer gives, after checking that it is what was asked for."""
    if answer.code:
        raise BY_CODE.get(answer.code, TokenError)()
    credential = Credential.decode(answer.credential)
    mine = (credential.node_id, credential.mesh_id, credential.role)
    if mine != (who.node_id, token.mesh_id, role):
        raise CredentialError("credential_of_another_node")
    if credential.key_fingerprint != token.key_fingerprint:
        raise CredentialError("other_key")
    key: MeshKey | None = None
    if role is Role.MEMBER:
        key = mesh_key.from_seed(token.mesh_id, answer.epoch, answer.seed)
        if key.public_key != credential.mesh_public_key:
            raise MeshKeyError("the mesh key does not belong to the credential.")
    return Joined(credential, key, member_id, answer.members, answer.revocations)
