"""What finished requests leave behind: the ring, the load meter, the metrics."""

from msgspec.structs import replace

from proxy import load, metrics, records
from proxy.load import LoadMeter
from proxy.metrics import ApiMetrics
from proxy.records import Outcome, RecordRing, RequestRecord
from tests.proxy.conftest import StartApi, eventually, post
from tests.proxy.fake_upstream import Call, FakeUpstream, event

RECORD = RequestRecord(
    id="r",
    path="/v1/chat/completions",
    model="demo",
    node="n",
    status=200,
    streamed=True,
    ttfb_ms=10.0,
    total_ms=50.0,
    tokens=20,
    outcome=Outcome.ANSWERED,
    retries=0,
)


def test_ring_keeps_the_last_records() -> None:
    ring = RecordRing()
    for n in range(records.RECORDS_MAX + 5):
        ring.add(replace(RECORD, tokens=n))
    kept = list(ring)
    assert len(kept) == len(ring) == records.RECORDS_MAX
    assert (kept[0].tokens, kept[-1].tokens) == (5, records.RECORDS_MAX + 4)


def test_meter_counts_in_flight_requests_tokens_and_rates() -> None:
    meter = LoadMeter()
    meter.sample(0.0, {})
    for ttfb in (10.0, 30.0, 20.0):
        meter.generated("demo", 20)
        meter.finished(replace(RECORD, ttfb_ms=ttfb))
    (first,) = meter.sample(1.0, {"demo": 1})
    assert (first.in_flight, first.requests, first.tokens, first.ttfb_p50_ms) == (1, 3, 60, 20.0)
    meter.generated("demo", 40)
    (second,) = meter.sample(3.0, {})
    assert second.tokens_per_s == 20.0
    assert second.requests_per_s == 0.0
    for now in range(4, 40):
        (last,) = meter.sample(float(now), {})
    assert last.tokens_per_s == 0.0


def test_meter_of_nothing_is_empty_and_of_many_is_bounded() -> None:
    meter = LoadMeter()
    assert meter.sample(0.0, {}) == ()
    in_flight = {f"m{n}": 1 for n in range(load.MODELS_MAX + 10)}
    assert len(meter.sample(1.0, in_flight)) == load.MODELS_MAX


def test_metrics_bound_their_labels() -> None:
    counted = ApiMetrics()
    for n in range(metrics.MODELS_MAX + 10):
        counted.observe(replace(RECORD, model=f"m{n}"))
    text = counted.render().decode()
    assert 'mesh_llm_tokens_total{model="other"} 200.0' in text
    assert text.count("mesh_llm_tokens_total{") == metrics.MODELS_MAX + 1


async def test_running_streams_count_in_the_load(start_api: StartApi, engine: FakeUpstream) -> None:
    async def two_and_wait(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(event(0) + event(1))
        await call.client_gone()

    engine.script = two_and_wait
    api = await start_api(engine)
    client = await api.connect()
    await client.send(post("/v1/chat/completions", b'{"model":"demo"}'))
    await client.until(event(1))
    (sample,) = api.app.load_samples(1.0)
    assert (sample.in_flight, sample.tokens, sample.requests) == (1, 2, 0)
    client.close()
    await eventually(lambda: api.records)
    (sample,) = api.app.load_samples(2.0)
    assert (sample.in_flight, sample.tokens, sample.requests) == (0, 2, 1)
