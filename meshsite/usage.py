"""Usage summed up before it is handed to the database's writer: a request costs one dictionary entry."""

import asyncio
from collections.abc import Callable

from proxy.records import RequestRecord

FLUSH_PERIOD_S = 2.0
"""How often the sums are handed on; a node that is killed loses at most this much of its usage."""

NoteUsage = Callable[[str, int, int, int, int], None]
"""(model, requests, prompt tokens, generated tokens, errors)."""

ERROR_STATUS_MIN = 400


class UsageSums:
    """Sums by model since the last flush. As many entries as models that answered."""

    def __init__(self, note_usage: NoteUsage) -> None:
        self._note_usage = note_usage
        self._sums: dict[str, list[int]] = {}

    def add(self, record: RequestRecord) -> None:
        """Count one finished request; one that no model was found for is nobody's usage."""
        if not record.model:
            return
        sums = self._sums.setdefault(record.model, [0, 0, 0, 0])
        sums[0] += 1
        sums[1] += record.prompt_tokens
        sums[2] += record.tokens
        sums[3] += record.status >= ERROR_STATUS_MIN

    def flush(self) -> None:
        """Hand the sums on and begin anew."""
        sums, self._sums = self._sums, {}
        for model, (requests, prompt, generated, errors) in sums.items():
            self._note_usage(model, requests, prompt, generated, errors)

    async def run(self) -> None:
        """Flush every period until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(FLUSH_PERIOD_S)
                self.flush()
        finally:
            self.flush()
