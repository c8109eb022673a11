"""The shell around routing: conversations stay, a single host costs nothing, one table is asked once."""

import json
import random
import timeit
from collections import Counter
from typing import Any

import pytest

from nodes.mesh.ids import ModelName
from nodes.mesh.routing import Refusal, RefusalKind, RequestNeeds, RoutingTable
from nodes.mesh.routing_order import Reason
from proxy.router import ROUTES_REMEMBERED_MAX, Choice, Router
from tests.fakes.peer_hosts import Answers, Fails, FakeHosts
from tests.nodes.mesh.routing_lab import ME, MODEL, host, told
from tests.proxy.walk_lab import NEEDS, Lab

ROUND_TURNS = 8


class Talk:
    """One conversation that grows by a question and an answer a turn."""

    def __init__(self, about: int, system: str = "You are terse.") -> None:
        self._messages: list[dict[str, Any]] = [{"role": "system", "content": system}]
        self._about = about

    def ask(self) -> bytes:
        turn = len(self._messages) // 2
        self._messages.append({"role": "user", "content": f"{self._about}: question {turn}"})
        return json.dumps({"model": MODEL, "messages": self._messages}).encode()

    def hear(self) -> None:
        self._messages.append({"role": "assistant", "content": "so be it"})


@pytest.mark.parametrize("seed", range(3))
async def test_conversations_keep_their_host_and_still_spread(seed: int) -> None:
    here = Lab([host(1), host(2)], seed=seed)
    first: Counter[str] = Counter()
    for about in range(200):
        talk = Talk(about)
        asked = set()
        for _ in range(ROUND_TURNS):
            asked.add(await here.ask(talk.ask()))
            talk.hear()
        assert len(asked) == 1
        first.update(asked)
    assert max(first.values()) / min(first.values()) <= 1.6


async def test_conversation_moves_when_its_host_dies_and_stays_with_the_new_one() -> None:
    here = Lab([host(1), host(2)])
    talk = Talk(1)
    old = await here.ask(talk.ask())
    gone = next(u for u in here.hosts if u.name == old)
    here.remove(gone)
    talk.hear()
    new = await here.ask(talk.ask())
    assert new != old
    here.change(gone)
    for _ in range(ROUND_TURNS):
        talk.hear()
        assert await here.ask(talk.ask()) == new


async def test_host_that_is_back_after_failing_is_asked_like_any_other() -> None:
    here = Lab([host(1), host(2)])
    await here.ask()
    gone = here.hosts[0]
    for _ in range(8):
        here.ways.router.hosts.failed(gone.key, here.ways.router.now(), trial=False)
    here.remove(gone)
    await here.ask()
    here.change(gone)
    asked = Counter([await here.ask() for _ in range(40)])
    assert asked[gone.name] >= 8


async def test_conversation_gives_way_when_its_host_is_full_and_returns_nowhere() -> None:
    here = Lab([host(1), host(2)])
    talk = Talk(1)
    old = await here.ask(talk.ask())
    full = next(u for u in here.hosts if u.name == old)
    here.change(full, load=told(1, 9))
    talk.hear()
    assert await here.ask(talk.ask()) != old


async def test_host_that_failed_a_turn_is_not_remembered_for_it() -> None:
    fakes = FakeHosts()
    hosts = [fakes.does(host(1, slots=64), Fails()), fakes.does(host(2), Answers())]
    here = Lab(hosts, fakes)
    talk = Talk(1)
    assert await here.ask(talk.ask()) == "box-2"
    talk.hear()
    choice = here.choose(talk.ask())
    assert (choice.places[0].upstream.name, choice.places[0].reason) == (
        "box-2",
        Reason.CONVERSATION,
    )


async def test_turn_that_the_engine_refused_is_not_remembered() -> None:
    fakes = FakeHosts()
    hosts = [fakes.does(host(n), Answers(400, b'{"error":{}}')) for n in (1, 2)]
    here = Lab(hosts, fakes)
    talk = Talk(1)
    await here.ask(talk.ask())
    talk.hear()
    assert here.choose(talk.ask()).places[0].reason is Reason.LOAD


def test_equal_first_turns_spread() -> None:
    here = Lab([host(1), host(2)])
    body = Talk(1).ask()
    chosen = Counter(here.choose(body).places[0].upstream.name for _ in range(1_000))
    assert max(chosen.values()) / min(chosen.values()) <= 1.3


# --- one host, one table -------------------------------------------------------------------------


def test_single_host_is_chosen_without_looking_at_anything() -> None:
    here = Lab([host(1)])
    choice = here.choose(Talk(1).ask())
    assert choice.places[0].reason is Reason.ONLY
    assert here.choose(Talk(2).ask()) is choice
    assert len(here.router.hosts) == 0


def test_choice_of_a_single_host_costs_less_than_ten_microseconds() -> None:
    """The best of many short runs: what it costs, whatever else the machine does."""
    here = Lab([host(1)])
    body = Talk(1).ask()
    best = min(timeit.repeat(lambda: here.router.choose(NEEDS, body), number=200, repeat=50))
    assert best / 200 < 10e-6


def test_new_table_is_believed_at_once() -> None:
    here = Lab([host(1)])
    assert here.choose().places[0].upstream.name == "box-1"
    here.table = RoutingTable(ME, (host(2),))
    assert here.choose().places[0].upstream.name == "box-2"
    here.table = RoutingTable(ME)
    refusal = here.router.choose(NEEDS, None)
    assert isinstance(refusal, Refusal) and refusal.kind is RefusalKind.NOTHING_SERVED


def test_names_that_clients_make_up_do_not_pile_up() -> None:
    here = Lab([host(1)])
    for number in range(5 * ROUTES_REMEMBERED_MAX):
        here.router.choose(RequestNeeds(ModelName(f"made-up-{number}")), None)
    assert len(here.router._found) <= ROUTES_REMEMBERED_MAX


def test_equal_seeds_choose_alike() -> None:
    def run() -> list[str]:
        table = RoutingTable(ME, tuple(host(n) for n in range(5)))
        router = Router(lambda: table, lambda: 0.0, random.Random(7))
        names = []
        for _ in range(50):
            choice = router.choose(NEEDS, None)
            assert isinstance(choice, Choice)
            names.append(choice.places[0].upstream.name)
        return names

    assert run() == run()
    assert len(set(run())) == 5
