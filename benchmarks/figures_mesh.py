"""The figures of whole meshes on real engines, each with the bound it must keep."""

from benchmarks.bounds import Bound, Figure

MS, PERCENT = 1e3, 100.0
_NONE = ("0", (Bound(0.0),))
_SECOND = ("<= 1 s", (Bound(1.0),))


def _mesh(
    key: str,
    title: str,
    unit: str,
    scale: float = 1.0,
    digits: int = 0,
    must: str = "",
    bounds: tuple[Bound, ...] = (),
    group: str = "mesh",
) -> Figure:
    return Figure(f"mesh_{key}", group, title, unit, scale, digits, must, bounds)


_EVEN = ("<= 1.3", (Bound(1.3),))
MESH_FIGURES = (
    _mesh(
        "kill_failed",
        "one of two hosts killed (SIGKILL) under 32 clients through a third node: requests not yet "
        "begun that failed",
        "",
        1,
        0,
        *_NONE,
    ),
    _mesh("kill_rest", "the same: how many those were", ""),
    _mesh(
        "kill_mute",
        "the same: streams in flight that ended without a word, or never",
        "",
        1,
        0,
        *_NONE,
    ),
    _mesh(
        "kill_told",
        "the same: kill -> the last of them ended with content or an SSE error",
        "s",
        1,
        3,
        *_SECOND,
    ),
    _mesh("kill_begun", "the same: how many those were", ""),
    _mesh("routable", "model ready on its node -> listed on all 5 nodes", "ms", MS, 0, *_SECOND),
    _mesh(
        "unroutable", "drop asked for on one node -> gone from all 5 nodes", "ms", MS, 0, *_SECOND
    ),
    _mesh(
        "prompt_share",
        "8-turn conversations over 2 hosts: prompt tokens processed, of those of round-robin",
        "",
        1,
        3,
        "<= 0.4",
        (Bound(0.4),),
    ),
    _mesh("prompt_own", "the same: prompt tokens, through the mesh", ""),
    _mesh("prompt_robin", "the same: prompt tokens, round-robin", ""),
    _mesh("even_16", "1,000 requests of 16 clients over 2 hosts: max / min", "", 1, 3, *_EVEN),
    _mesh("even_1", "1,000 requests of one client over 2 hosts: max / min", "", 1, 3, *_EVEN),
    _mesh(
        "same",
        "200 varied requests at temperature 0, hop against llama-server: same bytes",
        "%",
        PERCENT,
        1,
        "100 %",
        (Bound(1.0, True),),
    ),
    _mesh(
        "starts",
        "scenario 13 for 5 minutes: engine starts beyond one for each changed outcome",
        "",
        1,
        0,
        *_NONE,
        group="stability",
    ),
    _mesh("starts_changes", "the same: changed outcomes", "", group="stability"),
    _mesh("starts_others", "the same: joins, kills and leaves of others", "", group="stability"),
)
