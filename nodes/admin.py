"""The admin of peers, elections and events: read-only facts, actions through the mesh."""

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest

from nodes.admin_facts import FactsAdmin, ask_node
from nodes.models import DatabaseOwner, Election, MeshEvent, Peer

admin.site.site_header = "mesh-llm"
admin.site.site_title = "mesh-llm admin"
admin.site.index_title = "What this node knows"
admin.site.site_url = "/"


def _with_name(rows: "QuerySet[Any]", id_field: str) -> "QuerySet[Any]":
    """Return the rows with `node_name`, the name of the peer whose id is in `id_field`, in one query."""
    named = Peer.objects.filter(node_id=OuterRef(id_field)).values("name")[:1]
    annotated: QuerySet[Any] = rows.annotate(node_name=Subquery(named))
    return annotated


@admin.register(Peer)
class PeerAdmin(FactsAdmin):
    """Nodes as last seen."""

    list_display = (
        "name",
        "state",
        "role",
        "models",
        "offered",
        "round_trip",
        "version",
        "is_self",
        "present",
        "last_seen",
        "short_id",
    )
    list_filter = ("present", "state", "role", "version")
    search_fields = ("name", "node_id", "version")
    date_hierarchy = "last_seen"
    empty_text = "No machine yet. This node itself shows up a second after its start."
    actions = ("forget_peers", "revoke_peers")

    @admin.action(description="Forget the selected machines", permissions=["operate"])
    def forget_peers(self, request: HttpRequest, chosen: "QuerySet[Peer]") -> None:
        """Ask the node to take them off its lists."""
        ask_node(request, "forget", _chosen(chosen), "node")

    @admin.action(description="Revoke and block the selected machines", permissions=["operate"])
    def revoke_peers(self, request: HttpRequest, chosen: "QuerySet[Peer]") -> None:
        """Ask the node to withdraw their membership for good."""
        ask_node(request, "revoke", _chosen(chosen), "node")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Every staff account is an operator."""
        return bool(request.user.is_staff)

    @admin.display(description="serves")
    def models(self, peer: Peer) -> str:
        """Return what it serves."""
        return ", ".join(str(name) for name in peer.serving)

    @admin.display(description="memory", ordering="vram_gb")
    def offered(self, peer: Peer) -> str:
        """Return the memory offered."""
        return "" if peer.vram_gb is None else f"{peer.vram_gb:.1f} GB"

    @admin.display(description="round trip", ordering="rtt_ms")
    def round_trip(self, peer: Peer) -> str:
        """Return the round trip."""
        return "" if peer.rtt_ms is None else f"{peer.rtt_ms:.1f} ms"

    @admin.display(description="id", ordering="node_id")
    def short_id(self, peer: Peer) -> str:
        """Return the id's beginning."""
        return peer.node_id[:12]


def _chosen(peers: "QuerySet[Peer]") -> dict[str, str]:
    """Return id to name; this node itself is no target."""
    return {peer.node_id: str(peer) for peer in peers.filter(is_self=False)}


@admin.register(Election)
class ElectionAdmin(FactsAdmin):
    """Who was elected to serve what."""

    list_display = ("at", "model", "term", "host_named", "text")
    list_filter = ("model",)
    search_fields = ("model", "host", "text")
    date_hierarchy = "at"
    empty_text = "No election yet: the first comes when a model is to be served."

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Election]":
        """Return the rows with their hosts' names."""
        return _with_name(super().get_queryset(request), "host")

    @admin.display(description="host", ordering="host")
    def host_named(self, election: Any) -> str:
        """Return the host's name, or the beginning of its id."""
        return str(election.node_name or election.host[:12])


@admin.register(MeshEvent)
class MeshEventAdmin(FactsAdmin):
    """The node's history."""

    list_display = ("at", "level", "kind", "model", "machine", "text")
    list_filter = ("level", "kind")
    search_fields = ("text", "model", "node_id")
    date_hierarchy = "at"
    empty_text = (
        "Nothing has happened yet. What the node does and sees is written here as it happens."
    )

    def get_queryset(self, request: HttpRequest) -> "QuerySet[MeshEvent]":
        """Return the rows with the names of the machines that they are about."""
        return _with_name(super().get_queryset(request), "node_id")

    @admin.display(description="machine", ordering="node_id")
    def machine(self, event: Any) -> str:
        """Return the name of the machine that it is about, or the beginning of its id."""
        return str(event.node_name or event.node_id[:12])


@admin.register(DatabaseOwner)
class DatabaseOwnerAdmin(FactsAdmin):
    """Whose database this is."""

    list_display = ("node_id", "claimed_at")
