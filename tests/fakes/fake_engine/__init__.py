"""A stand-in for llama.cpp's two servers: fast, scripted, and honest about what happened to its streams.

Decides nothing about models: it answers every prompt with the same token. What a test or a measurement
wants of one request goes into the body's ``fake`` object (`requests.Wish`), what it wants of the whole
process into the environment (`options.Options`). `write_fake_engine` makes a folder for ``--bin-dir``.
"""

from tests.fakes.fake_engine.folder import write_fake_engine

__all__ = ["write_fake_engine"]
