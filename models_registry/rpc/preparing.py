"""Digests of whole files in the background, as soon as a split is foreseen, and no longer than that."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from models_registry.rpc.digests import Digests
from models_registry.rpc.weights import WeightFile

WAITING_MAX = 64
"""Files waiting to be hashed; beyond that a load computes what it needs by itself."""


class Preparing:
    """One thread that hashes one file after another."""

    def __init__(self, digests: Digests) -> None:
        self._digests = digests
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="digests")
        self._stopped = threading.Event()
        self._waiting = 0

    def start(self, files: Iterable[WeightFile]) -> None:
        """Hash these files when it is their turn; what is known already costs nothing."""
        for file in files:
            if self._waiting < WAITING_MAX and not self._stopped.is_set():
                self._waiting += 1
                self._thread.submit(self._one, file)

    def _one(self, file: WeightFile) -> None:
        try:
            self._digests.prepare(file, self._stopped.is_set)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Stop within one tensor."""
        self._stopped.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
