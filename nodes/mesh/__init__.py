"""The mesh's decisions, as one sans-IO state machine: `node.MeshNode.handle(event, now) -> effects`.

PURE: nothing in this package knows a clock, a socket, a file, a random source of its own, logging
or Django. Time arrives as `now` (seconds, monotonic), everything else as an event; what is to be
done leaves as effects, which `nodes.runtime.driver` carries out.
"""
