"""The admin of API keys and usage. A key is shown once, when it is made."""

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from nodes.access import key_secret
from nodes.admin_facts import FactsAdmin
from proxy.api_keys import SHOWN_PREFIX_CHARS, key_digest, new_key
from proxy.key_rows import reload_key_ring
from proxy.models import ApiKey, Usage


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):
    """Make, rename, expire and revoke keys."""

    list_display = ("name", "shown", "state", "created_at", "expires_at")
    list_filter = ("revoked_at", "expires_at")
    search_fields = ("name", "prefix")
    date_hierarchy = "created_at"
    fields = ("name", "expires_at", "shown", "created_at", "revoked_at")
    readonly_fields = ("shown", "created_at", "revoked_at")
    actions = ("revoke",)
    empty_value_display = "–"

    @admin.display(description="key")
    def shown(self, key: ApiKey) -> str:
        """Return what may still be shown of it."""
        return f"{key.prefix}…" if key.prefix else "shown once, after saving"

    @admin.display(description="state")
    def state(self, key: ApiKey) -> str:
        """Return whether it is good."""
        if key.revoked_at:
            return "revoked"
        if key.expires_at and key.expires_at <= timezone.now():
            return "expired"
        return "good"

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Make the key with its row, and show it once."""
        if not change:
            key = new_key()
            obj.prefix = key[:SHOWN_PREFIX_CHARS]
            obj.digest = key_digest(key, key_secret())
            messages.warning(
                request, f"Copy the key now; it is shown this once and not kept: {key}"
            )
        super().save_model(request, obj, form, change)
        transaction.on_commit(reload_key_ring)

    def delete_model(self, request: HttpRequest, obj: ApiKey) -> None:
        """Delete it; it is refused from then on."""
        super().delete_model(request, obj)
        transaction.on_commit(reload_key_ring)

    def delete_queryset(self, request: HttpRequest, queryset: "QuerySet[ApiKey]") -> None:
        """Delete them; they are refused from then on."""
        super().delete_queryset(request, queryset)
        transaction.on_commit(reload_key_ring)

    @admin.action(description="Revoke the selected keys")
    def revoke(self, request: HttpRequest, chosen: "QuerySet[ApiKey]") -> None:
        """Refuse them from now on; the rows stay for the record."""
        count = chosen.filter(revoked_at=None).update(revoked_at=timezone.now())
        reload_key_ring()
        messages.success(request, f"Revoked: {count}.")


@admin.register(Usage)
class UsageAdmin(FactsAdmin):
    """Sums per model and hour."""

    list_display = ("hour", "model", "requests", "errors", "prompt_tokens", "completion_tokens")
    list_filter = ("model",)
    search_fields = ("model",)
    date_hierarchy = "hour"
    empty_text = "Nothing was asked yet: each hour in which a model answers becomes a line here."
