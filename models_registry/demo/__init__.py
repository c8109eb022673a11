"""The demo model: small, committed, and what a node without `--model` serves."""

from pathlib import Path


def demo_path() -> Path:
    """Return the demo model's file. Its text and weights are public domain (CC0-1.0)."""
    return Path(__file__).with_name("mesh-demo.gguf")
