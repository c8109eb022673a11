"""The node's database: where it is, migrations by themselves, and whose it is.

The node serves on when the database is locked, full or read-only, and says so; only a database that
belongs to another node ends the start.
"""

import logging
from typing import Any

from nodes.runtime.home import Home

log = logging.getLogger("mesh.database")


def place(home: Home, databases: dict[str, dict[str, Any]], default_name: str) -> None:
    """Point the default SQLite database into the node's own folder; one that was given stays."""
    if databases["default"]["NAME"] == default_name:
        databases["default"]["NAME"] = str(home.database)


def prepare(node_id: str) -> str | None:
    """Migrate and claim the database, load the API keys (blocking).

    Returns None, or for people what is wrong with it.

    Raises:
        ForeignDatabaseError: it belongs to another node.
    """
    from django.core.management import call_command
    from django.db import DatabaseError, connections

    from nodes.models import DatabaseOwner
    from proxy.key_rows import reload_key_ring

    try:
        call_command("migrate", interactive=False, verbosity=0)
        DatabaseOwner.claim(node_id)
        reload_key_ring()
    except (DatabaseError, OSError) as error:
        text = (
            f"The database cannot be used ({error}). The node serves on; history, usage and the "
            "admin wait until it can."
        )
        log.warning("%s", text)
        return text
    finally:
        connections.close_all()
    return None
