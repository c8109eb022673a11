"""What a passive client hears: the table of a member that it asked. It takes no part in gossip."""

from dataclasses import dataclass

from nodes.mesh.gossip_effects import MemberView


@dataclass(frozen=True, slots=True)
class TableReceived:
    """Every node of the mesh as a member sees it now; replaces the table before."""

    hosts: tuple[MemberView, ...]
