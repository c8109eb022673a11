"""The figures of the hop through a peer link, each with the bound it must keep."""

from benchmarks.bounds import Bound, Figure

MS, US, MB, PERCENT = 1e3, 1e6, 1e-6, 100.0
_WHOLE = (Bound(1.0, True),)


def _hop(
    key: str,
    title: str,
    unit: str,
    scale: float,
    digits: int,
    must: str = "",
    bounds: tuple[Bound, ...] = (),
) -> Figure:
    return Figure(f"hop_{key}", "hop", title, unit, scale, digits, must, bounds)


def _streams(name: int, bounded: bool) -> tuple[Figure, ...]:
    what = f"64 streams of {name} ms/token through the hop"
    gap = ("<= 10 ms", (Bound(10e-3),)) if bounded else ("", ())
    cpu = ("<= 250 us", (Bound(250e-6),)) if bounded else ("", ())
    return (
        _hop(f"delivered_{name}", f"{what}: tokens delivered", "%", PERCENT, 2, "100 %", _WHOLE),
        _hop(f"gap_p99_{name}", "the same: added gap between tokens, p99", "ms", MS, 2, *gap),
        _hop(f"cpu_{name}", "the same: CPU per token, both ends", "us", US, 1, *cpu),
    )


HOP_FIGURES = (
    _hop(
        "ttfb_p50",
        "QUIC hop, added time to first byte over the local path, 1 client, p50",
        "ms",
        MS,
        3,
        "<= 1.5 ms",
        (Bound(1.5e-3),),
    ),
    _hop("ttfb_p99", "the same, p99", "ms", MS, 3),
    *_streams(50, bounded=True),
    *_streams(20, bounded=False),
    _hop(
        "freed_p99",
        "disconnect -> slot idle across the hop, p99",
        "ms",
        MS,
        1,
        "<= 500 ms",
        (Bound(0.5),),
    ),
    _hop(
        "unread_memory",
        "memory growth of both nodes, one client that never reads",
        "MB",
        MB,
        2,
        "<= 5 MB",
        (Bound(5e6),),
    ),
    _hop(
        "many_delivered",
        "500 streams of 5 tokens/s arriving over 10 s, one node to 2 hosts: tokens delivered",
        "%",
        PERCENT,
        2,
        "100 %",
        _WHOLE,
    ),
    _hop(
        "many_ttfb",
        "the same: time to first byte, p50 (whole, not added)",
        "ms",
        MS,
        1,
        "<= 400 ms",
        (Bound(0.4),),
    ),
    _hop("many_memory", "the same: memory of the three nodes over idle", "MB", MB, 1),
)
