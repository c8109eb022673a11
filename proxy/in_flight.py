"""Requests that are on their way now: those asked here, and those that peers asked for.

Decides what counts as this node's own load: a request is with a model here while its upstream is this
node's own engine, wherever it was asked. Draining and dropping a model look at these alone; a stop of
the node ends them all. Owns the load meter, so that running streams are in its figures.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from nodes.mesh.events import ServerLoadSampled
from proxy.load import MODELS_MAX, LoadMeter
from proxy.openai import Fault, FaultKind
from proxy.records import Outcome, RequestRecord


class Running(Protocol):
    """One request on its way."""

    @property
    def model(self) -> str:
        """The model that was chosen; empty before that."""
        ...

    @property
    def with_own_engine(self) -> bool:
        """Whether it is with an engine of this node now (or was, at its end)."""
        ...

    def end(self, reason: Fault | Outcome) -> None:
        """End it from outside; its asker is told why."""
        ...

    def move_on(self, reason: Fault) -> None:
        """End it where it is: another host is asked if nothing was said yet, else as `end`."""
        ...

    def fresh_tokens(self) -> int:
        """Return the tokens generated since the last call."""
        ...


class InFlight:
    """The requests on their way, and what they leave in the load figures."""

    def __init__(self, retry_after_s: int) -> None:
        self._retry_after_s = retry_after_s
        self._running: set[Running] = set()
        self._load = LoadMeter()
        self._asked: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._running)

    def add(self, request: Running) -> None:
        """A request is on its way."""
        self._running.add(request)

    def remove(self, request: Running) -> None:
        """A request is through, or another engine is asked first. Twice is allowed."""
        self._running.discard(request)

    def count(self, model: str | None = None) -> int:
        """Return how many are with this node's engine of `model`; None: all, wherever they are."""
        return sum(1 for one in self._running if _concerned(one, model))

    def interrupt(self, reason: str, model: str | None = None) -> int:
        """End those with this node's engine of `model` (None: all) and say `reason`; return how many.

        Of one model, those that nothing was said to yet go to another host, if there is one.
        """
        fault = Fault(FaultKind.STOPPING, reason, retry_after_s=self._retry_after_s)
        ended = [one for one in self._running if _concerned(one, model)]
        for request in ended:
            request.end(fault) if model is None else request.move_on(fault)
        return len(ended)

    def finished(self, request: Running, record: RequestRecord) -> None:
        """Put a request that is through into the load figures, if an engine of this node had it."""
        if record.model and request.with_own_engine:
            self._load.generated(record.model, request.fresh_tokens())
            self._load.finished(record)

    def load_samples(self, now: float) -> tuple[ServerLoadSampled, ...]:
        """Return the load of this node's engines as of `now` (seconds, monotonic)."""
        in_flight: Counter[str] = Counter()
        for request in self._running:
            if request.model and request.with_own_engine:
                in_flight[request.model] += 1
                self._load.generated(request.model, request.fresh_tokens())
        return self._load.sample(now, in_flight)

    def note_asked(self, model: str) -> None:
        """Count a request that was asked at this node's API, whoever answers it."""
        if model in self._asked or len(self._asked) < MODELS_MAX:
            self._asked[model] += 1

    def asked(self) -> Mapping[str, int]:
        """Return how often each model was asked for here since the start: what demand is made of."""
        return self._asked


def _concerned(request: Running, model: str | None) -> bool:
    return model is None or (request.model == model and request.with_own_engine)
