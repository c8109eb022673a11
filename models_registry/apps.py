"""Django's registration of this app."""

from django.apps import AppConfig


class ModelsRegistryConfig(AppConfig):
    """The app `models_registry`."""

    name = "models_registry"
    verbose_name = "Models"
