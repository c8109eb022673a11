"""An admin of facts: rows that the node writes can be read and searched, not changed by hand."""

import time
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.contrib import admin, messages
from django.http import HttpRequest

from nodes.runtime import handle as node_handle


class FactsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Read-only: no add, no change, no delete; a list that counts only what it must."""

    show_full_result_count = False
    list_per_page = 50
    empty_value_display = "–"
    change_list_template = "admin/facts_list.html"
    empty_text = "Nothing yet."
    """What an empty list says: what would be here, and how it comes."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Return the list, with what to say when it is empty."""
        return super().changelist_view(
            request, {"empty_text": self.empty_text, **(extra_context or {})}
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Facts are not added by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Facts are not changed by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Facts go by their bounds alone."""
        return False


def send_operator_message(action: str, target: str, about: str = "model") -> str:
    """Send an operator message to the node over the channel layer.

    `about` says what the target is: ``model`` or ``node``. Returns an empty string, or why it could not
    be sent. The outcome is in the node's history.
    """
    handle = node_handle.current()
    if handle is None:
        return "No node runs in this process, so there is nobody to ask."
    message = {
        "type": "operator.message",
        "payload": {"action": action, "target": target, about: target, "at": time.time()},
    }
    try:
        async_to_sync(get_channel_layer().send)(f"mesh.{handle.node_id}", message)
    except Exception as error:  # the layer's own faults: full, Redis away
        return f"The channel layer did not take the message ({error})."
    return ""


def ask_node(
    request: HttpRequest, action: str, targets: dict[str, str], about: str = "model"
) -> None:
    """Send one message per target (what is asked for, to what people call it) and say how that went."""
    for target in targets:
        trouble = send_operator_message(action, target, about)
        if trouble:
            messages.error(request, trouble)
            return
    asked = ", ".join(targets.values())
    messages.success(request, f"Asked the node: {action} {asked}. The outcome is under Events.")
