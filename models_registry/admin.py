"""The admin of models and engine starts: read-only facts, actions through the mesh."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from models_registry.models import LaunchRecord, ServedModel
from nodes.admin_facts import FactsAdmin, ask_node


def _named(chosen: "QuerySet[ServedModel]") -> dict[str, str]:
    return {name: name for name in chosen.values_list("name", flat=True)}


@admin.register(ServedModel)
class ServedModelAdmin(FactsAdmin):
    """Models as last seen; dropping and restarting goes through the node."""

    list_display = (
        "name",
        "status",
        "state",
        "size",
        "context",
        "slots",
        "node_count",
        "present",
        "updated_at",
        "reason",
    )
    list_filter = ("status", "present", "architecture")
    search_fields = ("name", "title", "reason")
    date_hierarchy = "updated_at"
    empty_text = "No model yet. Serve one in the console, or with mesh-llm load NAME."
    actions = ("drop_models", "load_models", "restart_models")

    @admin.display(description="size", ordering="size_bytes")
    def size(self, model: ServedModel) -> str:
        """Return the size for people."""
        return filesizeformat(model.size_bytes) if model.size_bytes else ""

    @admin.action(description="Stop serving the selected models", permissions=["operate"])
    def drop_models(self, request: HttpRequest, chosen: "QuerySet[ServedModel]") -> None:
        """Ask the node to drop them."""
        ask_node(request, "drop", _named(chosen))

    @admin.action(description="Serve the selected models", permissions=["operate"])
    def load_models(self, request: HttpRequest, chosen: "QuerySet[ServedModel]") -> None:
        """Ask the node to load them."""
        ask_node(request, "load", _named(chosen))

    @admin.action(description="Restart the engines of the selected models", permissions=["operate"])
    def restart_models(self, request: HttpRequest, chosen: "QuerySet[ServedModel]") -> None:
        """Ask the node to restart their engines."""
        ask_node(request, "restart", _named(chosen))

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Every staff account is an operator."""
        return bool(request.user.is_staff)


@admin.register(LaunchRecord)
class LaunchRecordAdmin(FactsAdmin):
    """Engine starts and how they ended."""

    list_display = (
        "started_at",
        "model",
        "number",
        "ready_after",
        "ended_at",
        "outcome",
        "engine_version",
        "context",
        "slots",
    )
    list_filter = ("model", "engine_version")
    empty_text = "No engine has been started yet: one is as soon as a model is served."
    search_fields = ("model", "outcome")
    date_hierarchy = "started_at"

    @admin.display(description="ready after")
    def ready_after(self, launch: LaunchRecord) -> Any:
        """Return the time from start to readiness."""
        if launch.ready_at is None:
            return ""
        return f"{(launch.ready_at - launch.started_at).total_seconds():.1f} s"
