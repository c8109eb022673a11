"""`mesh-llm doctor` on a running node: each hop between this machine and the others, one line each.

Decides what is worth a warning and what to do about it. The measuring is `nodes.runtime.doctor`.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from nodes.mesh.gossip_effects import MemberView
from nodes.mesh.snapshot import State
from nodes.runtime import doctor
from nodes.runtime.doctor import PeerReport
from nodes.runtime.transport import Transport

PEERS_MAX = 32
"""Peers asked in one diagnosis; further ones are named and left out."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's answer."""

    what: str
    state: str
    """``ok``, ``warning`` or ``failed``."""
    text: str
    """One sentence: what was found, and what to do where it is not well."""


async def diagnose(
    state: State,
    transport: Transport,
    own: tuple[str, ...],
    members: Iterable[MemberView],
    peer: str,
) -> list[dict[str, Any]]:
    """Return the checks as documents; `peer`: the beginning of one node's id or its name, or all."""
    checks = list(_own_checks(state, own))
    chosen = [m for m in members if _means(m, peer)]
    if peer and not chosen:
        text = f"No node called {peer} is in this mesh; `mesh-llm status` lists them."
        checks.append(Check(peer, "failed", text))
    elif not chosen:
        text = "No other node is in this mesh. `mesh-llm token new` makes a token to join by."
        checks.append(Check("peers", "warning", text))
    groups = await asyncio.gather(*(_peer_checks(transport, own, m) for m in chosen[:PEERS_MAX]))
    for group in groups:
        checks.extend(group)
    if len(chosen) > PEERS_MAX:
        text = f"{len(chosen) - PEERS_MAX} further nodes were not asked; name one to ask it."
        checks.append(Check("peers", "warning", text))
    return [asdict(check) for check in checks]


def _means(member: MemberView, peer: str) -> bool:
    return not peer or member.node_id.startswith(peer) or member.announcement.name == peer


def _own_checks(state: State, own: tuple[str, ...]) -> Iterable[Check]:
    node, engine = state.get("node", {}), state.get("engine", {})
    if engine.get("state") == "found":
        version = f"llama.cpp {engine.get('version') or 'of an unknown version'}"
        yield Check("engine", "ok", f"{version} from {engine.get('source')}.")
    else:
        why = engine.get("reason") or "It is being looked for."
        yield Check("engine", "failed", f"No engine. {why}")
    yield Check("api", "ok", f"Open on TCP port {node.get('api_port')}.")
    places = ", ".join(own)
    yield Check("addresses", "ok", f"Other machines are told {places} (UDP).")
    for key, entry in state.items():
        if key.startswith("notice/"):
            yield Check(key.removeprefix("notice/"), "warning", str(entry.get("text")))


async def _peer_checks(
    transport: Transport, own: tuple[str, ...], member: MemberView
) -> list[Check]:
    name = member.announcement.name or member.node_id[:8]
    link = transport.links.get(member.node_id)
    there = await doctor.probe_all(member.announcement.addresses)
    checks = [_way(f"{name}: way there", there, "from here")]
    report = await doctor.ask(link, own) if link is not None and link.is_up else None
    if report is None:
        text = "No link that answers: it is asked again as soon as one is up."
        return [*checks, Check(f"{name}: link", "failed", text)]
    checks.append(Check(f"{name}: link", "ok", f"Up, round trip {report.rtt_ms:.1f} ms."))
    checks.append(_way(f"{name}: way back", report.found, f"from {name}"))
    checks.append(_clock(name, report))
    return checks


def _way(what: str, found: dict[str, str], seen_from: str) -> Check:
    good = [address for address, said in found.items() if said == "answered"]
    told = ", ".join(f"{address} {said}" for address, said in found.items())
    if good:
        return Check(what, "ok", f"Seen {seen_from}: {told}.")
    if any(said == "refused" for said in found.values()):
        text = (
            f"Seen {seen_from}: {told}. The machine answers, but nothing listens on that UDP port."
        )
    else:
        text = (
            f"Seen {seen_from}: {told or 'no address is known'}. A firewall or router drops UDP, or "
            "the machine is off or in another network: open the port, or fix it with --bind-port."
        )
    return Check(what, "failed", text)


def _clock(name: str, report: PeerReport) -> Check:
    what, apart_s = f"{name}: clock", abs(report.skew_s)
    if apart_s <= doctor.SKEW_MAX_S:
        return Check(what, "ok", f"{apart_s:.1f} s apart.")
    text = (
        f"{apart_s:.0f} s apart: tokens and credentials end too early or too late. Set the clocks by "
        "NTP on both machines."
    )
    return Check(what, "warning", text)
