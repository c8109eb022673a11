"""Django's registration of this app."""

from django.apps import AppConfig


class ProxyConfig(AppConfig):
    """The app `proxy`."""

    name = "proxy"
    verbose_name = "API"
