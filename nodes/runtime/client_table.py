"""The routing table that members give to passive clients: every node, where it is, what it serves and does.

Asked for on a stream of kind `TABLE_KIND` of a proven link; signed by who gives it. With it goes what a
client must know to trust the mesh later: who was expelled, and which key is the mesh's now. The member
keeps nothing of the asker (scenario 15). Bounded: the hosts told of, and the bytes of an answer.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from nodes.mesh import limits
from nodes.mesh.announcement import Announcement, IdBytes
from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.mesh.ids import NodeId
from nodes.mesh.messages import PublicKey, Signature
from nodes.mesh.records import id_of_key
from nodes.runtime.identity import verify
from nodes.runtime.link import Link
from nodes.runtime.streams import Stream, StreamAbortedError
from nodes.runtime.trust import MAX_EPOCHS_KEPT, MAX_REVOCATIONS, Trust
from nodes.runtime.trust_records import Revocation, Rotation
from nodes.runtime.unpack import UNPACK_FAULTS

TABLE_KIND = "table"
HOSTS_MAX = 1_024
"""Nodes told of, those that serve something first."""
TABLE_BYTES_MAX = limits.STREAM_FRAME_BYTES_MAX
TIMEOUT_S = 5.0
_CONTEXT = b"mesh-llm table 1\0"


class TableError(Exception):
    """No table came, or none that can be believed. The text is one sentence."""


class _Host(msgspec.Struct, array_like=True, frozen=True):
    node_id: IdBytes
    rank_last: bool
    said: Announcement
    load: Annotated[bytes, Meta(max_length=limits.LOAD_BYTES_MAX)] = b""


class _Table(msgspec.Struct, array_like=True, frozen=True):
    """New fields are appended, with defaults; a reader ignores those that it does not know."""

    hosts: Annotated[tuple[_Host, ...], Meta(max_length=HOSTS_MAX)]
    revocations: Annotated[tuple[Revocation, ...], Meta(max_length=MAX_REVOCATIONS)] = ()
    rotations: Annotated[tuple[Rotation, ...], Meta(max_length=MAX_EPOCHS_KEPT)] = ()


class _Signed(msgspec.Struct, array_like=True, frozen=True):
    table: bytes
    public_key: PublicKey
    signature: Signature


@dataclass(frozen=True, slots=True)
class ClientTable:
    """What one member told."""

    hosts: tuple[MemberView, ...]
    revocations: tuple[Revocation, ...] = ()
    rotations: tuple[Rotation, ...] = ()


def encode(trust: Trust, own: Announcement, members: Iterable[MemberView]) -> bytes:
    """Return the table as this member gives it: itself first, then the others."""
    who = trust.identity
    hosts = [_Host(bytes.fromhex(who.node_id), False, _short(own))]
    others = sorted(members, key=lambda view: not view.announcement.serving)
    for view in others[: HOSTS_MAX - 1]:
        said = _short(view.announcement)
        hosts.append(_Host(bytes.fromhex(view.node_id), view.rank_last, said, view.load))
    table = msgspec.msgpack.encode(_Table(tuple(hosts), *trust.records()))
    return msgspec.msgpack.encode(_Signed(table, who.public_key, who.sign(_CONTEXT + table)))


def decode(content: bytes, giver: NodeId) -> ClientTable:
    """Return the table that `giver` signed.

    Raises:
        TableError: it is malformed, or not signed by who gave it.
    """
    try:
        signed = msgspec.msgpack.decode(content, type=_Signed)
        table = msgspec.msgpack.decode(signed.table, type=_Table)
    except UNPACK_FAULTS as error:
        raise TableError("the table is malformed") from error
    by_giver = id_of_key(signed.public_key) == giver
    if not by_giver or not verify(signed.public_key, signed.signature, _CONTEXT + signed.table):
        raise TableError("the table is not signed by who gave it")
    hosts = tuple(_view(host) for host in table.hosts)
    return ClientTable(hosts, table.revocations, table.rotations)


async def fetch(link: Link) -> ClientTable:
    """Ask this member for its table.

    Raises:
        TableError: it gave none in time, or none that can be believed.
    """
    try:
        stream = await link.open_stream(TABLE_KIND)
        stream.end()
        content = await stream.read_all(TABLE_BYTES_MAX, TIMEOUT_S)
    except StreamAbortedError as error:
        raise TableError(f"{link.peer_id[:12]} gave no table ({error})") from error
    return decode(content, link.peer_id)


async def give(stream: Stream, content: bytes) -> None:
    """Answer one stream of kind `TABLE_KIND`."""
    await stream.write(content)
    stream.end()


def _short(said: Announcement) -> Announcement:
    """Leave out what no client routes by."""
    return msgspec.structs.replace(said, on_disk=(), wanted=(), rates=(), rtts=())


def _view(host: _Host) -> MemberView:
    return MemberView(
        node_id=NodeId(host.node_id.hex()),
        state=MemberState.SUSPECT if host.rank_last else MemberState.ALIVE,
        rank_last=host.rank_last,
        incarnation=0,
        version=0,
        announcement=host.said,
        rtt_s=None,
        load=host.load,
    )
