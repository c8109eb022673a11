"""Who is admitted: the mesh's keys by epoch, the revoked ids, and this node's own standing.

Decides, from a certificate's credential alone, whether a peer may complete a handshake. Knows no
sockets. A full member (it holds the mesh key) signs its own credential; a client got one. Records
about revocation and rotation come from `trust_records` and are kept by `trust_file`.
"""

import time
from collections.abc import Callable, Iterable

from cryptography import x509

from nodes.mesh.ids import NodeId
from nodes.runtime import credentials
from nodes.runtime.credentials import Credential, CredentialError, Role
from nodes.runtime.identity import Identity
from nodes.runtime.mesh_key import MeshId, MeshKey, fingerprint
from nodes.runtime.trust_records import (
    Epoch,
    Revocation,
    Rotation,
    genuine,
    signed_revocation,
    signed_rotation,
)

MAX_REVOCATIONS = 1024
MAX_EPOCHS_KEPT = 16
EPOCH_GRACE_S = 86_400
"""How long after a rotation the epoch before is still admitted, so that members can fetch the new key."""
_RENEW_FRACTION = 0.5
"""A member signs itself a new credential when less than this part of its lifetime is left."""


class Trust:
    """One node's view of its mesh. A node without a mesh key is a client and holds `credential`."""

    def __init__(
        self,
        identity: Identity,
        mesh_key: MeshKey | None,
        credential: Credential | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        assert mesh_key is not None or credential is not None, "no mesh: start one or join one"
        self.identity = identity
        self.mesh_key = mesh_key
        self._now_s = now_s
        self._credential = credential
        self._certificate: x509.Certificate | None = None
        self._epochs: dict[int, Epoch] = {}
        self._rotations: dict[int, Rotation] = {}
        self._revoked: dict[NodeId, Revocation] = {}
        self.on_change: Callable[[], None] = lambda: None
        """Called after a record was added: links are rechecked and the records kept and told on."""
        self._begin(mesh_key, credential)

    def enter(self, mesh_key: MeshKey | None, credential: Credential) -> None:
        """Leave the mesh of before, if another, and be in this one: what joining ends with."""
        self.mesh_key = mesh_key
        self._credential = credential
        self._certificate = None
        known = self._epochs
        if credential.mesh_id != self._mesh_id:
            known, self._rotations, self._revoked = {}, {}, {}
        self._begin(mesh_key, credential)
        # In the mesh of before, members may still show the key of before: nothing is forgotten.
        self._epochs = self._epochs | known
        self.on_change()

    def _begin(self, mesh_key: MeshKey | None, credential: Credential | None) -> None:
        if mesh_key is not None:
            self._mesh_id = mesh_key.mesh_id
            self._epochs = {mesh_key.epoch: Epoch(mesh_key.public_key, 0)}
        elif credential is not None:
            self._mesh_id = credential.mesh_id
            self._epochs = {credential.epoch: Epoch(credential.mesh_public_key, 0)}

    @property
    def node_id(self) -> NodeId:
        """This node's id."""
        return self.identity.node_id

    @property
    def mesh_id(self) -> MeshId:
        """The mesh that this node is in."""
        return self._mesh_id

    @property
    def epoch(self) -> int:
        """The latest epoch known."""
        return max(self._epochs)

    @property
    def role(self) -> Role:
        """A node with the mesh key is a full member."""
        return Role.MEMBER if self.mesh_key is not None else Role.CLIENT

    @property
    def key_fingerprint(self) -> str:
        """The fingerprint of the mesh's key now, as invite tokens carry it."""
        return fingerprint(self._epochs[self.epoch].public_key)

    def public_key(self, epoch: int) -> bytes | None:
        """Return the mesh's public key of an epoch; None when it is not known here."""
        known = self._epochs.get(epoch)
        return known.public_key if known is not None else None

    def credential(self) -> Credential:
        """Return this node's own credential; a member's is signed anew well before it ends."""
        now_s = self._now_s()
        mine = self._credential
        if self.mesh_key is not None and (mine is None or self._stale(mine, now_s)):
            mine = credentials.issue(self.mesh_key, self.node_id, Role.MEMBER, now_s)
            self._credential = mine
            self._certificate = None
        assert mine is not None
        return mine

    def certificate(self) -> x509.Certificate:
        """Return the certificate to show in handshakes."""
        credential = self.credential()
        if self._certificate is None:
            self._certificate = credentials.certificate_for(self.identity, credential)
        return self._certificate

    def admit(self, node_id: NodeId, credential: Credential | None) -> Credential:
        """Return the credential when it gives `node_id` a place in this mesh now.

        Raises:
            CredentialError: `code` says why not: no_credential, other_mesh, other_key, old_epoch,
                credential_expired, credential_not_yet_valid, node_revoked.
        """
        if credential is None:
            raise CredentialError("no_credential")
        if credential.mesh_id != self._mesh_id:
            raise CredentialError("other_mesh")
        epoch = self._epochs.get(credential.epoch)
        if epoch is None or credential.node_id != node_id:
            raise CredentialError("other_epoch")
        if epoch.public_key != credential.mesh_public_key:
            raise CredentialError("other_key")
        if not self._epoch_open(credential.epoch):
            raise CredentialError("old_epoch")
        credential.check_time(self._now_s())
        if node_id in self._revoked:
            raise CredentialError("node_revoked")
        return credential

    def is_revoked(self, node_id: NodeId) -> bool:
        """Return whether the mesh has expelled this id."""
        return node_id in self._revoked

    def revoke(self, node_id: NodeId) -> Revocation:
        """Expel an id, and return the record to tell the others. Full members only."""
        assert self.mesh_key is not None, "only a full member can revoke"
        record = signed_revocation(self.mesh_key, node_id, self._now_s())
        self.add_records([record], [])
        return record

    def rotate(self) -> Rotation:
        """Give the mesh a new key, ending its invite tokens now and other credentials after a grace."""
        assert self.mesh_key is not None, "only a full member can rotate"
        new = self.mesh_key.rotated()
        record = signed_rotation(self.mesh_key, new, self._now_s())
        self._take_key(new)
        self.add_records([], [record])
        return record

    def records(self) -> tuple[tuple[Revocation, ...], tuple[Rotation, ...]]:
        """Return all that this node can tell about trust."""
        return tuple(self._revoked.values()), tuple(self._rotations.values())

    def epochs(self) -> dict[int, Epoch]:
        """Return the mesh's keys by epoch, as far as known."""
        return dict(self._epochs)

    def restore_epochs(self, epochs: dict[int, Epoch]) -> None:
        """Know these keys again: from this node's own file, so unsigned. Those known already stay."""
        for number, epoch in sorted(epochs.items())[-MAX_EPOCHS_KEPT:]:
            known = self._epochs.get(number)
            if known is None or known.public_key == epoch.public_key:
                self._epochs[number] = epoch

    def add_records(
        self,
        revocations: Iterable[Revocation],
        rotations: Iterable[Rotation],
        mesh_key: MeshKey | None = None,
    ) -> bool:
        """Take over genuine records from another member; return whether anything was new.

        `mesh_key` is the newest key itself, as members hand it to members; None: not told. Records
        that are not genuine or over a bound are left out.
        """
        changed = False
        for rotation in sorted(rotations, key=lambda r: r.epoch):
            changed |= self._add_rotation(rotation)
        for revocation in revocations:
            changed |= self._add_revocation(revocation)
        if mesh_key is not None and self.mesh_key is not None:
            known = self._epochs.get(mesh_key.epoch)
            newer = mesh_key.epoch > self.mesh_key.epoch and mesh_key.mesh_id == self._mesh_id
            if newer and known is not None and known.public_key == mesh_key.public_key:
                self._take_key(mesh_key)
                changed = True
        if changed:
            self.on_change()
        return changed

    def _add_rotation(self, record: Rotation) -> bool:
        before = self._epochs.get(record.epoch - 1)
        if record.epoch in self._rotations or before is None:
            return False
        if not genuine(record, self._mesh_id, before.public_key):
            return False
        self._rotations[record.epoch] = record
        self._epochs[record.epoch] = Epoch(record.public_key, record.made_s)
        while len(self._epochs) > MAX_EPOCHS_KEPT:
            oldest = min(self._epochs)
            del self._epochs[oldest]
            self._rotations.pop(oldest, None)
        return True

    def _add_revocation(self, record: Revocation) -> bool:
        node_id = NodeId(record.node_id)
        epoch = self._epochs.get(record.epoch)
        if node_id in self._revoked or epoch is None or len(self._revoked) >= MAX_REVOCATIONS:
            return False
        if not genuine(record, self._mesh_id, epoch.public_key):
            return False
        self._revoked[node_id] = record
        return True

    def _take_key(self, key: MeshKey) -> None:
        self.mesh_key = key
        self._epochs.setdefault(key.epoch, Epoch(key.public_key, int(self._now_s())))
        self._credential = None
        self._certificate = None

    def _epoch_open(self, epoch: int) -> bool:
        if epoch == self.epoch:
            return True
        following = self._epochs.get(epoch + 1)
        return (
            epoch == self.epoch - 1
            and following is not None
            and self._now_s() < following.made_s + EPOCH_GRACE_S
        )

    def _stale(self, credential: Credential, now_s: float) -> bool:
        left_s = credential.expires_s - now_s
        lifetime_s = credential.expires_s - credential.issued_s
        key = self.mesh_key
        other = key is not None and credential.epoch != key.epoch
        return other or left_s < lifetime_s * _RENEW_FRACTION
