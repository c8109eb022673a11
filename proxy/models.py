"""API keys (only their keyed hash) and usage per model and hour. Tokens and bodies are never stored."""

from django.db import models
from django.utils import timezone

USAGE_ROWS_MAX = 100_000
"""Rows of Usage kept; the oldest hours go first."""


class ApiKey(models.Model):
    """A key for the API. The key itself is shown once and not kept."""

    name = models.CharField(max_length=100, help_text="Who or what uses this key.")
    prefix = models.CharField(max_length=16, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: it does not expire.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class Usage(models.Model):
    """What one model was asked for within one hour."""

    hour = models.DateTimeField()
    model = models.CharField(max_length=300)
    requests = models.PositiveBigIntegerField(default=0)
    errors = models.PositiveBigIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    completion_tokens = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["-hour", "model"]
        verbose_name_plural = "usage"
        constraints = [
            models.UniqueConstraint(fields=["hour", "model"], name="usage_hour_model"),
        ]
        indexes = [models.Index(fields=["model", "-hour"], name="usage_model")]

    def __str__(self) -> str:
        return f"{self.model} at {self.hour:%Y-%m-%d %H:00}"
