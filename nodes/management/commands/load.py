"""`mesh-llm load MODEL`."""

from nodes.management.node_command import ModelCommand


class Command(ModelCommand):
    """Serve a model: a path, a stem on disk, a catalogue name or org/repo/file.gguf."""

    word = "load"
    help = "Serve a model: a path, a stem on disk, a catalogue name or org/repo/file.gguf."
