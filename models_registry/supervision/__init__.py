"""Child processes of the node, one concept a file. `models_registry.supervisor` is the door."""
