"""Everything of the node that needs Django: its set-up, the console application, the records.

Imported early but importing Django late: the API's port opens before Django is loaded.
"""

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from meshsite import database, settings
from meshsite.usage import UsageSums
from nodes.runtime.daemon_thread import in_daemon_thread
from nodes.runtime.handle import AsgiApp
from nodes.runtime.home import Home

if TYPE_CHECKING:
    from meshsite.compose import RunningNode

log = logging.getLogger("mesh.node")

PREPARE_RETRY_S = (1.0, 60.0)
"""First and longest wait after a database that could not be prepared."""


def set_up(home: Home) -> None:
    """Configure Django for this home; a Django that is already set up (manage.py) is adjusted."""
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "meshsite.settings")
    default_name = str(settings.MESH_LLM_HOME / "db.sqlite3")
    database.place(home, settings.DATABASES, default_name)
    settings.SECRET_KEY = home.secret

    import django
    from django.apps import apps
    from django.conf import settings as live
    from django.db import connections

    live.SECRET_KEY = home.secret
    if apps.ready:
        database.place(home, connections.settings, default_name)
    else:
        django.setup()


def console_application() -> AsgiApp:
    """Return the console's ASGI application: pages, small API, admin and websockets; no /v1."""
    from meshsite.asgi import console

    return console()


def operator_link(console_url: str) -> str:
    """Return a one-time link that opens an operator's session."""
    from nodes.access import new_operator_link

    return new_operator_link(console_url)


async def keep_records(node: "RunningNode") -> str | None:
    """Migrate, then project the feed into the database until cancelled.

    Returns why the node must not run: the database belongs to another one. Other troubles are shown
    as a notice and waited out: nothing is written before the database is known to be this node's.
    """
    from nodes.consumers import run_gossip_channel
    from nodes.models import ForeignDatabaseError
    from nodes.projection import Projection

    node.spawn(run_gossip_channel(node.handle.node_id))
    projection = Projection(node.feed, on_trouble=lambda text: node.notice("database", text))
    usage = UsageSums(projection.note_usage)
    node.on_request = usage.add
    node.spawn(usage.run())
    try:
        await _prepare_database(node)
    except ForeignDatabaseError as error:
        return str(error)
    await projection.run()
    return None


async def _prepare_database(node: "RunningNode") -> None:
    """Return once the database is migrated and claimed. Raises: ForeignDatabaseError."""
    wait_s, longest_s = PREPARE_RETRY_S
    while True:
        trouble = await in_daemon_thread(
            lambda: database.prepare(node.handle.node_id), "prepare the database"
        )
        node.notice("database", trouble)
        if trouble is None:
            return
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, longest_s)


def static_root() -> Path:
    """Return where collected assets lie."""
    return Path(settings.STATIC_ROOT)
