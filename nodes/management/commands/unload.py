"""`mesh-llm unload MODEL`: the counterpart of `load`, another name of `drop`."""

from nodes.management.commands import drop


class Command(drop.Command):
    """Stop serving a model; open answers may finish. The same as `drop`."""

    help = "Stop serving a model; open answers may finish. The same as drop."
