"""Django's registration of this app."""

from django.apps import AppConfig


class NodesConfig(AppConfig):
    """The app `nodes`."""

    name = "nodes"
    verbose_name = "Mesh"
