"""The admin of peers, elections and events: read-only facts, actions through the mesh."""

from django.contrib import admin

from nodes.admin_facts import FactsAdmin
from nodes.models import DatabaseOwner, Election, MeshEvent, Peer

admin.site.site_header = "mesh-llm"
admin.site.site_title = "mesh-llm admin"
admin.site.index_title = "What this node knows"
admin.site.site_url = "/"


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


@admin.register(Election)
class ElectionAdmin(FactsAdmin):
    """Who was elected to serve what."""

    list_display = ("at", "model", "term", "host", "text")
    list_filter = ("model",)
    search_fields = ("model", "host", "text")
    date_hierarchy = "at"


@admin.register(MeshEvent)
class MeshEventAdmin(FactsAdmin):
    """The node's history."""

    list_display = ("at", "level", "kind", "model", "text")
    list_filter = ("level", "kind")
    search_fields = ("text", "model", "node_id")
    date_hierarchy = "at"


@admin.register(DatabaseOwner)
class DatabaseOwnerAdmin(FactsAdmin):
    """Whose database this is."""

    list_display = ("node_id", "claimed_at")
