"""Projections of the running node for the admin and for history, and who owns the database.

The mesh state in memory is the truth; these rows are what `nodes.projection` writes of it. Nothing
reads them to decide anything about the mesh.
"""

from django.db import models, transaction
from django.utils import timezone

MESH_EVENTS_MAX = 100_000
"""Rows of MeshEvent kept; the oldest go first."""

ELECTIONS_MAX = 10_000
"""Rows of Election kept; the oldest go first."""

PEERS_MAX = 2_000
"""Rows of Peer kept; those gone longest go first."""


class ForeignDatabaseError(RuntimeError):
    """The database belongs to another node. The text says which and what to do."""


class DatabaseOwner(models.Model):
    """The one node that this database belongs to: a single row."""

    node_id = models.CharField(max_length=64)
    claimed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = "database owner"
        verbose_name_plural = "database owner"

    def __str__(self) -> str:
        return self.node_id[:12]

    @classmethod
    def claim(cls, node_id: str) -> None:
        """Make this database that of `node_id`; claiming one's own again changes nothing.

        Raises:
            ForeignDatabaseError: it belongs to another id. The node does not start.
        """
        with transaction.atomic():
            owner, _ = cls.objects.get_or_create(pk=1, defaults={"node_id": node_id})
        if owner.node_id != node_id:
            raise ForeignDatabaseError(
                f"The database belongs to node {owner.node_id[:12]}, this is node {node_id[:12]}. "
                "One database serves one node: give this node its own with DATABASE_URL, "
                "or start it in the home (MESH_LLM_HOME) of the node that owns it."
            )


class Peer(models.Model):
    """A node of the mesh as this node last saw it; `is_self` marks this node."""

    node_id = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=200, blank=True)
    role = models.CharField(max_length=32, blank=True)
    state = models.CharField(max_length=32, blank=True)
    serving = models.JSONField(default=list, blank=True)
    vram_gb = models.FloatField("memory offered (GB)", null=True, blank=True)
    rtt_ms = models.FloatField("round trip (ms)", null=True, blank=True)
    version = models.CharField(max_length=64, blank=True)
    is_self = models.BooleanField("this node", default=False)
    present = models.BooleanField(default=True)
    first_seen = models.DateTimeField(default=timezone.now)
    last_seen = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        ordering = ["-is_self", "-present", "name"]
        indexes = [
            models.Index(fields=["-is_self", "-present", "name"], name="peer_admin_order"),
            models.Index(fields=["state"], name="peer_state"),
        ]

    def __str__(self) -> str:
        return self.name or self.node_id[:12]


class Election(models.Model):
    """One election outcome: who serves a model, alone or split, and since when."""

    at = models.DateTimeField(default=timezone.now)
    model = models.CharField(max_length=300, blank=True)
    term = models.PositiveBigIntegerField(null=True, blank=True)
    host = models.CharField("host node id", max_length=64, blank=True)
    workers = models.JSONField(default=list, blank=True)
    text = models.TextField("outcome", blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [
            models.Index(fields=["-at", "-id"], name="election_admin_order"),
            models.Index(fields=["model", "-at"], name="election_model"),
        ]

    def __str__(self) -> str:
        return self.text or f"election of {self.model}"


class MeshEvent(models.Model):
    """One line of the node's history in plain words; at most MESH_EVENTS_MAX are kept."""

    class Level(models.TextChoices):
        """How much a person should care."""

        INFO = "info"
        WARNING = "warning"
        ERROR = "error"

    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=64, blank=True)
    level = models.CharField(max_length=16, choices=Level.choices, default=Level.INFO)
    model = models.CharField(max_length=300, blank=True)
    node_id = models.CharField("about node", max_length=64, blank=True)
    text = models.TextField()

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name = "event"
        indexes = [
            models.Index(fields=["-at", "-id"], name="event_admin_order"),
            models.Index(fields=["level", "-at"], name="event_level"),
            models.Index(fields=["kind", "-at"], name="event_kind"),
            models.Index(fields=["model", "-at"], name="event_model"),
            models.Index(fields=["node_id", "-at"], name="event_node"),
        ]

    def __str__(self) -> str:
        return self.text[:120]
