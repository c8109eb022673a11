"""The load generator counts every token, stamps it on arrival, and says so when answers fail."""

import json
import socket
import time

import pytest

from benchmarks.loadgen.spec import LoadSpec
from benchmarks.process import Load, TargetFailed, free_port, http_get, run_load
from benchmarks.stats import median
from benchmarks.wrk import read_rate
from tests.benchmarks.conftest import StartEngine

MARK = " qz"


def streamed(port: int, kind: str, tokens: int, count: int, **fake: float) -> LoadSpec:
    body = {"stream": True, "max_tokens": tokens, "fake": fake}
    return LoadSpec(
        kind, port, body=body, token_mark=MARK, count=count, slots_port=port, timeout_s=20
    )


def test_streams_deliver_every_token_at_the_pace_that_was_asked(engine_port: int) -> None:
    seen = run_load(streamed(engine_port, "streams", 15, 8, interval_s=0.02))
    assert (seen.finished, seen.failed, seen.tokens) == (8, 0, 120)
    assert len(seen.gaps_s) == 8 * 14
    assert 0.01 < median(seen.gaps_s) < 0.1


def test_a_load_that_says_more_than_a_pipe_holds_ends_by_itself(engine_port: int) -> None:
    load = Load(streamed(engine_port, "streams", 200, 64, interval_s=0.005))
    deadline = time.monotonic() + 20
    while load.running():
        assert time.monotonic() < deadline, "nobody read its result, so it never ended"
        time.sleep(0.05)
    assert load.result().tokens == 64 * 200


def test_first_byte_of_a_stream_waits_for_the_first_token(engine_port: int) -> None:
    seen = run_load(streamed(engine_port, "sequence", 1, 3, first_token_s=0.1))
    assert len(seen.ttfb_s) == 3
    assert min(seen.ttfb_s) >= 0.099


def test_warm_up_requests_do_not_count(engine_port: int) -> None:
    body = {"max_tokens": 1}
    seen = run_load(LoadSpec("sequence", engine_port, body=body, count=5, warm_up=2))
    assert len(seen.ttfb_s) == seen.finished == 5
    assert json.loads(http_get(engine_port, "/fake/stats")[1])["requests"] >= 7


def test_a_sequence_of_streams_survives_a_server_that_closes_after_each(engine_port: int) -> None:
    seen = run_load(streamed(engine_port, "sequence", 3, 6))
    assert (seen.finished, seen.failed, seen.tokens) == (6, 0, 18)
    stats = json.loads(http_get(engine_port, "/fake/stats")[1])
    assert stats["streams_done"] == stats["streams_opened"] == 6


def test_a_stream_cut_short_counts_as_failed(engine_port: int) -> None:
    seen = run_load(streamed(engine_port, "streams", 10, 2, drop_after_tokens=4))
    assert (seen.finished, seen.failed, seen.tokens) == (0, 2, 8)


def test_an_error_status_counts_as_failed(engine_port: int) -> None:
    seen = run_load(streamed(engine_port, "streams", 10, 2, status=503))
    assert (seen.finished, seen.failed, seen.ttfb_s) == (0, 2, [])


def test_a_disconnect_is_timed_until_the_slot_is_idle(engine_port: int) -> None:
    seen = run_load(streamed(engine_port, "disconnect", 5000, 3, interval_s=0.02))
    assert seen.failed == 0
    assert len(seen.freed_s) == 3
    assert json.loads(http_get(engine_port, "/fake/stats")[1])["streams_cancelled"] == 3


def test_a_reader_that_never_reads_holds_the_stream_back(start_engine: StartEngine) -> None:
    port = start_engine()
    spec = streamed(port, "never_reads", 10_000_000, 1, interval_s=0, chunk_bytes=16_384)
    seen = run_load(LoadSpec("never_reads", port, body=spec.body, timeout_s=1))
    assert seen.finished == 1
    sent = json.loads(http_get(port, "/fake/stats")[1])["tokens_sent"]
    assert sent * 16_384 < 64e6


def test_nothing_listening_is_a_failed_target() -> None:
    with pytest.raises(TargetFailed, match=r"ConnectionRefused|OSError"):
        run_load(LoadSpec("sequence", free_port()))


def test_a_target_that_accepts_and_never_answers_ends_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        seen = run_load(LoadSpec("streams", deaf.getsockname()[1], count=2, timeout_s=0.5))
    assert (seen.finished, seen.failed) == (0, 2)


def test_wrk_report_with_good_answers_gives_the_rate() -> None:
    assert read_rate("  123 requests in 2s\nRequests/sec:   1234.50\n") == 1234.5


@pytest.mark.parametrize("said", ["", "  Non-2xx or 3xx responses: 7\nRequests/sec:  9.0\n"])
def test_wrk_report_with_errors_is_refused(said: str) -> None:
    with pytest.raises(TargetFailed):
        read_rate(said)
