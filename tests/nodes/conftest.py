"""A scripted node, a migrated and empty database, and a client that speaks to the console."""

from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import connections
from django.test import AsyncClient, Client

from nodes.runtime import handle as node_handle
from tests.fakes.node_handle import ScriptedNode


@pytest.fixture
def node() -> Iterator[ScriptedNode]:
    """Install a scripted node on loopback."""
    yield ScriptedNode().install()
    node_handle.install(None)


@pytest.fixture
def database() -> Iterator[None]:
    """Migrate the run's database and empty it."""
    call_command("migrate", interactive=False, verbosity=0)
    call_command("flush", interactive=False, verbosity=0)
    yield
    connections.close_all()


@pytest.fixture
def client() -> Client:
    """Return a client under the console's own name."""
    return Client(headers={"host": "localhost:3131"}, raise_request_exception=False)


@pytest.fixture
def async_client() -> AsyncClient:
    """Return the same for views that stream; it takes the Host header with each request only."""
    return AsyncClient(raise_request_exception=False)
