"""Every figure of the table, with the bound it must keep. The bounds are the project's own promises."""

from benchmarks.bounds import Bound, Figure
from benchmarks.figures_hop import HOP_FIGURES
from benchmarks.figures_mesh import MESH_FIGURES
from benchmarks.target import LITELLM, NGINX

MS, US, MB, PERCENT = 1e3, 1e6, 1e-6, 100.0
_TTFB = (Bound(0.5e-3), Bound(1 / 20, peer=LITELLM))
_TTFB_MUST = "<= 0.5 ms, <= 1/20 of LiteLLM"

FIGURES = (
    Figure(
        "ttfb_p50",
        "ttfb",
        "added time to first byte, 1 client, streamed, p50",
        "ms",
        MS,
        3,
        _TTFB_MUST,
        _TTFB,
    ),
    Figure("ttfb_p99", "ttfb", "the same, p99", "ms", MS, 3),
    Figure(
        "ttfb_whole_p50",
        "ttfb",
        "added time to first byte, 1 client, not streamed, p50",
        "ms",
        MS,
        3,
        _TTFB_MUST,
        _TTFB,
    ),
    Figure("ttfb_whole_p99", "ttfb", "the same, p99", "ms", MS, 3),
    Figure(
        "rps",
        "rps",
        "requests/s, 16 clients, not streamed",
        "1/s",
        1,
        0,
        ">= 0.2 x nginx, >= 50 x LiteLLM",
        (Bound(0.2, True, NGINX), Bound(50, True, LITELLM)),
    ),
    Figure(
        "cpu_token",
        "streams",
        "CPU per streamed token, 64 streams of 50 tokens/s",
        "us",
        US,
        1,
        "<= 2.5 x nginx, <= 1/20 of LiteLLM",
        (Bound(2.5, peer=NGINX), Bound(1 / 20, peer=LITELLM)),
    ),
    Figure("gap_p50", "streams", "added gap between tokens, 64 streams, p50", "ms", MS, 3),
    Figure("gap_p99", "streams", "the same, p99", "ms", MS, 3),
    Figure(
        "many_memory",
        "memory",
        "memory over idle, 500 streams of 5 tokens/s arriving over 10 s",
        "MB",
        MB,
        1,
        "<= 30 MB",
        (Bound(30e6),),
    ),
    Figure(
        "many_delivered",
        "memory",
        "tokens delivered of them",
        "%",
        PERCENT,
        2,
        "100 %",
        (Bound(1.0, True),),
    ),
    Figure(
        "many_ttfb",
        "memory",
        "time to first byte of them, p50 (whole, not added)",
        "ms",
        MS,
        1,
        "<= 100 ms",
        (Bound(0.1),),
    ),
    Figure(
        "unread_memory",
        "unread",
        "memory growth, one client that never reads",
        "MB",
        MB,
        2,
        "<= 5 MB",
        (Bound(5e6),),
    ),
    Figure("freed_p50", "disconnect", "disconnect -> slot idle, fake engine, p50", "ms", MS, 1),
    Figure("freed_p99", "disconnect", "the same, p99", "ms", MS, 1, "<= 300 ms", (Bound(0.3),)),
    Figure(
        "real_freed_p50",
        "disconnect",
        "disconnect -> slot idle, real llama-server, p50",
        "ms",
        MS,
        1,
    ),
    Figure(
        "real_freed_p99", "disconnect", "the same, p99", "ms", MS, 1, "<= 300 ms", (Bound(0.3),)
    ),
    Figure(
        "real_ttfb_p50",
        "real",
        "added time to first byte, real llama-server, streamed, p50",
        "ms",
        MS,
        3,
    ),
    Figure(
        "real_rps", "real", "requests/s of 16 tokens, 16 clients, real llama-server", "1/s", 1, 1
    ),
    Figure(
        "start_port",
        "start",
        "start of the node -> API port open",
        "s",
        1,
        2,
        "<= 2 s",
        (Bound(2.0),),
    ),
    Figure(
        "start_answer",
        "start",
        "start of the node -> first answer (demo model, real engine)",
        "s",
        1,
        2,
        "<= 4 s",
        (Bound(4.0),),
    ),
    Figure(
        "idle_cpu",
        "idle",
        "idle node, one console tab open: of a core",
        "%",
        PERCENT,
        2,
        "<= 1 %",
        (Bound(0.01),),
    ),
    Figure(
        "idle_rss",
        "idle",
        "idle node, one console tab open: RSS",
        "MB",
        MB,
        1,
        "<= 120 MB",
        (Bound(120e6),),
    ),
    Figure("idle_cpu_alone", "idle", "idle node, no tab: of a core", "%", PERCENT, 2),
    Figure("idle_rss_alone", "idle", "idle node, no tab: RSS", "MB", MB, 1),
    Figure(
        "setup_first", "setup", "`make setup` from nothing", "s", 1, 1, "<= 120 s", (Bound(120.0),)
    ),
    Figure("setup_again", "setup", "`make setup` again", "s", 1, 1, "<= 3 s", (Bound(3.0),)),
    *HOP_FIGURES,
    *MESH_FIGURES,
)
GROUPS = tuple(dict.fromkeys(figure.group for figure in FIGURES))
