"""Usage is summed by model and handed on in one piece."""

import asyncio

import pytest

from meshsite.usage import UsageSums
from proxy.records import Outcome, RequestRecord


def record(model: str = "tiny", status: int = 200) -> RequestRecord:
    return RequestRecord(
        id="r", path="/v1/x", model=model, node="n", status=status, streamed=False, ttfb_ms=1.0,
        total_ms=2.0, tokens=7, outcome=Outcome.ANSWERED, retries=0, prompt_tokens=3,
    )  # fmt: skip


def test_sums_are_by_model_with_errors_counted() -> None:
    noted: list[tuple] = []
    sums = UsageSums(lambda *args: noted.append(args))
    for status in (200, 200, 500):
        sums.add(record(status=status))
    sums.add(record("other"))
    sums.flush()
    assert noted == [("tiny", 3, 9, 21, 1), ("other", 1, 3, 7, 0)]
    sums.flush()
    assert len(noted) == 2


def test_request_without_a_model_is_nobodys_usage() -> None:
    noted: list[tuple] = []
    sums = UsageSums(lambda *args: noted.append(args))
    sums.add(record(model="", status=404))
    sums.flush()
    assert noted == []


async def test_what_is_left_is_handed_on_at_the_end() -> None:
    noted: list[tuple] = []
    sums = UsageSums(lambda *args: noted.append(args))
    task = asyncio.create_task(sums.run())
    await asyncio.sleep(0)
    sums.add(record())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert noted == [("tiny", 1, 3, 7, 0)]
