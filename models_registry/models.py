"""What the node serves and which engines it started: projections for the admin and for history."""

from django.db import models
from django.utils import timezone

LAUNCH_RECORDS_MAX = 20_000
"""Rows of LaunchRecord kept; the oldest go first."""

SERVED_MODELS_MAX = 5_000
"""Rows of ServedModel kept; those gone longest go first."""


class ServedModel(models.Model):
    """A model of the mesh as this node last saw it."""

    name = models.CharField(max_length=300, unique=True)
    title = models.CharField(max_length=300, blank=True)
    status = models.CharField(max_length=16, blank=True)
    state = models.CharField(max_length=32, blank=True)
    reason = models.TextField(blank=True)
    size_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    architecture = models.CharField(max_length=64, blank=True)
    quantisation = models.CharField(max_length=32, blank=True)
    context = models.PositiveIntegerField(null=True, blank=True)
    slots = models.PositiveIntegerField(null=True, blank=True)
    capabilities = models.JSONField(default=list, blank=True)
    nodes = models.JSONField(default=list, blank=True)
    node_count = models.PositiveIntegerField(default=0)
    present = models.BooleanField(default=True)
    updated_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        ordering = ["-present", "name"]
        indexes = [
            models.Index(fields=["-present", "name"], name="served_admin_order"),
            models.Index(fields=["status"], name="served_status"),
        ]

    def __str__(self) -> str:
        return self.name


class LaunchRecord(models.Model):
    """One start of an engine: when, with which facts, and how it ended.

    It holds no command line: an argv may carry paths and keys that the admin should not show.
    """

    model = models.CharField(max_length=300)
    number = models.PositiveIntegerField("start")
    engine_version = models.CharField(max_length=64, blank=True)
    context = models.PositiveIntegerField(null=True, blank=True)
    slots = models.PositiveIntegerField(null=True, blank=True)
    need_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    ready_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.TextField(blank=True)

    class Meta:
        ordering = ["-started_at", "-id"]
        indexes = [
            models.Index(fields=["-started_at", "-id"], name="launch_admin_order"),
            models.Index(fields=["model", "-started_at"], name="launch_model"),
        ]

    def __str__(self) -> str:
        return f"{self.model}, start {self.number}"
