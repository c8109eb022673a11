"""How much is measured: the full run (about ten minutes) and the quick one (under 90 s)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of every load. Seconds unless a name says otherwise."""

    rounds: int = 7
    sequence_count: int = 200
    slow_sequence_count: int = 60
    """For LiteLLM, whose requests take a hundred times as long."""
    rps_s: float = 2.0
    stream_tokens: int = 100
    stream_token_interval_s: float = 0.02
    many_streams: int = 500
    many_arrival_s: float = 10.0
    many_hold_s: float = 10.0
    """How long all of them are open together."""
    many_limit_s: float = 60.0
    unread_s: float = 60.0
    disconnects: int = 50
    real_rounds: int = 3
    starts: int = 5
    idle_s: float = 30.0
    idle_settle_s: float = 5.0
    kills: int = 6
    route_changes: int = 10
    affinity_rounds: int = 3
    conversations: int = 8
    even_requests: int = 1000
    same_requests: int = 200
    stability_s: float = 300.0


FULL = Plan()
QUICK = Plan(
    rounds=2,
    sequence_count=60,
    slow_sequence_count=15,
    rps_s=0.7,
    stream_tokens=25,
    many_streams=60,
    many_arrival_s=1.5,
    many_hold_s=1.5,
    many_limit_s=15.0,
    unread_s=4.0,
    disconnects=5,
    real_rounds=1,
    starts=1,
    idle_s=3.0,
    idle_settle_s=1.0,
    kills=1,
    route_changes=2,
    affinity_rounds=1,
    even_requests=100,
    same_requests=40,
    stability_s=15.0,
)
