"""Why a dial came to nothing: what a person, the membership core and `doctor` each need of it."""

from collections.abc import Mapping

from nodes.runtime.address import Address

REFUSED_PORT = "port_refused"
TIMED_OUT = "timed_out"
UNRESOLVED = "name_not_found"
UNREACHABLE = "unreachable"

_SENTENCES = {
    REFUSED_PORT: "the machine answers, but nothing listens on this port",
    TIMED_OUT: "no answer (off, another network, or a firewall drops UDP)",
    UNRESOLVED: "the name is not known here",
    UNREACHABLE: "there is no way to this address from here",
    "wrong_node": "another node answers there",
    "own_id": "it is this node itself",
    "twin": "another running process there uses this node's own key: stop one of the two",
    "other_mesh": "the node there belongs to another mesh",
    "other_key": "the node there shows a credential that this mesh did not sign",
    "other_epoch": "the two sides know different keys of the mesh",
    "old_epoch": "a credential from before the mesh's key was rotated",
    "no_credential": "no credential was shown",
    "no_certificate": "no certificate was shown",
    "credential_expired": "a credential has expired (or a clock is wrong)",
    "credential_not_yet_valid": "a credential is from the future: a clock is wrong",
    "node_revoked": "the mesh has revoked this node",
    "not_a_member": "the node there is a client, which serves nothing",
}


def sentence(code: str) -> str:
    """Return what a code of a failed dial means, for people; unknown codes are shown as they are."""
    return _SENTENCES.get(code, code)


class DialError(ConnectionError):
    """No address led to the peer. `codes` says why, for each address that was tried."""

    def __init__(self, codes: Mapping[Address, str]) -> None:
        self.codes = dict(codes)
        parts = [f"{address}: {sentence(code)}" for address, code in self.codes.items()]
        super().__init__("; ".join(parts) or "no address to dial")

    @property
    def refused(self) -> bool:
        """True when every machine that was tried answered that the port is closed."""
        return bool(self.codes) and all(code == REFUSED_PORT for code in self.codes.values())


class AttemptError(ConnectionError):
    """One address came to nothing. `code` is one word; see `sentence`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
