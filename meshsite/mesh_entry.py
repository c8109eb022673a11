"""How a node comes into a mesh: by a token, by what it kept of an earlier start, or by beginning its own.

Decides which of the three, and what to say when a token does not work. The exchange itself is
`nodes.runtime.joining`; what is kept lies in the home.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meshsite.options import Options
from meshsite.version import VERSION
from nodes.mesh.gossip_events import Contact
from nodes.mesh.ids import NodeId
from nodes.runtime import contacts_file, identity, mesh_key
from nodes.runtime.credentials import Role
from nodes.runtime.home import Home
from nodes.runtime.identity import Identity
from nodes.runtime.join_sources import JoinToken
from nodes.runtime.joining import Joined, JoinError, MemberUnreachableError, join_first
from nodes.runtime.mesh_key import MeshKey
from nodes.runtime.token import InviteToken
from nodes.runtime.token_errors import JoinBusyError, JoinPendingError, OwnTokenError

RETRY_S = (1.0, 60.0)
"""First and longest wait before a mesh that did not answer is tried again (spec, Pinned 12)."""
_WORTH_ANOTHER_TRY = (MemberUnreachableError, JoinPendingError, JoinBusyError)


class CannotJoin(Exception):
    """The tokens lead nowhere, and trying again would not help. The text says why for each."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Who the node is, and the mesh that it was in before."""

    who: Identity
    home: Path | None
    """None: nothing is kept (an identity in memory)."""
    key: MeshKey | None
    """The key of the mesh before; None: it was in none."""


def standing(home: Home, options: Options) -> Standing:
    """Return what is known before any contact.

    Raises:
        IdentityError, MeshKeyError: a file of the home cannot be used; the text says why.
    """
    if home.ephemeral:
        return Standing(identity.ephemeral(), None, None)
    key = None if options.new_mesh else mesh_key.load(home.path)
    return Standing(identity.load_or_create(home.path), home.path, key)


def refuse_own_token(found: Standing, tokens: Sequence[JoinToken]) -> None:
    """Return unless every token is one that this node itself issued.

    Raises:
        CannotJoin: they all are: a mistake of copying that nothing later would mend.
    """
    if tokens and all(t.token.issuer == found.who.node_id for t in tokens):
        raise CannotJoin(_why_not(tokens, [OwnTokenError() for _ in tokens]))


def already_in(found: Standing, tokens: Sequence[JoinToken]) -> bool:
    """Return whether the node needs no token: it has none, or is a member of a mesh that one names."""
    if not tokens:
        return True
    return found.key is not None and any(t.token.mesh_id == found.key.mesh_id for t in tokens)


def known_contacts(found: Standing, tokens: Sequence[JoinToken]) -> tuple[Contact, ...]:
    """Return where the mesh of `found` may be found: by the tokens first, then where it was last seen."""
    key = found.key
    if key is None:
        return ()
    own = found.who.node_id
    named = [token_contact(t.token) for t in tokens if t.token.mesh_id == key.mesh_id]
    kept = contacts_file.load(found.home, key.mesh_id) if found.home is not None else ()
    return tuple(c for c in dict.fromkeys([*named, *kept]) if c.node_id != own)


def token_contact(token: InviteToken) -> Contact:
    """Return where a token's issuer may be dialled."""
    return Contact(token.issuer, tuple(str(a) for a in token.addresses))


async def join(found: Standing, tokens: Sequence[JoinToken], role: Role, name: str) -> Joined:
    """Return the place in the first mesh that lets this node in.

    Raises:
        CannotJoin: no token can work, now or later.
        JoinError: nobody answered, or the operator there has not approved yet: try again.
    """
    try:
        return await join_first(
            found.who, [t.token for t in tokens], role, time.time(), name=name, software=VERSION
        )
    except JoinError as error:
        if any(isinstance(cause, _WORTH_ANOTHER_TRY) for cause in error.causes):
            raise
        raise CannotJoin(_why_not(tokens, error.causes)) from error


def _why_not(tokens: Sequence[JoinToken], causes: Sequence[Exception]) -> str:
    if len(causes) == 1 and isinstance(causes[0], OwnTokenError):
        return f"{tokens[0].source}: {causes[0]}"
    lines = [f"{t.source}: {cause}" for t, cause in zip(tokens, causes, strict=False)]
    return "No invite token lets this node in. " + " ".join(lines)


def why_later(error: JoinError) -> str:
    """Return one sentence on a join that is to be tried again."""
    if any(isinstance(cause, JoinPendingError) for cause in error.causes):
        return "The mesh's operator has to approve this machine; asking again until then."
    return f"No machine of the mesh could be reached: {error}"


def contacts_of(joined: Joined, tokens: Sequence[JoinToken], own: NodeId) -> tuple[Contact, ...]:
    """Return whom to dial after a join: who let this node in, then the others it named."""
    mesh_id = joined.credential.mesh_id
    named = {t.token.issuer: token_contact(t.token) for t in tokens if t.token.mesh_id == mesh_id}
    for member in joined.members:
        named[NodeId(member.node_id)] = Contact(NodeId(member.node_id), member.addresses)
    named.pop(own, None)
    first = named.pop(joined.member_id, None)
    return tuple([first] if first else []) + tuple(named.values())
