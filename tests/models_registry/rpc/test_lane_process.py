"""The lane's own process: it lives and ends with its node, and comes back with all that holds."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import psutil
import pytest

from models_registry.children import recorded
from models_registry.guard import identity
from models_registry.progress import Progress
from models_registry.rpc import control_words as cw
from models_registry.rpc.lane_process import LaneFault
from nodes.mesh.ids import NodeId
from tests.conftest import REPO
from tests.models_registry.rpc.duo import FakeRpcServer
from tests.models_registry.rpc.model_file import tensors, write_model
from tests.models_registry.rpc.rig import RigNode, rig, settled
from tests.models_registry.rpc.wire import hello, hello_answer
from tests.models_registry.supervising import gone
from tests.nodes.link_lab import overrule, until

BOUND_S = 5.0


async def greeting_through(port: int) -> bytes:
    """Return what an rpc-server answers to a greeting through a tunnel port; empty: it was cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(hello())
        async with asyncio.timeout(10):
            return await reader.read(200)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def tunnel_port(host: RigNode, worker: RigNode, server: FakeRpcServer, term: int) -> int:
    port = await host.lane.open_port(worker.id, server.port, term, [])
    host.lane.name_client(port, os.getpid())
    return port


async def test_it_ends_with_close_and_leaves_no_record(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        one = await made.node()
        pid = one.lane.pid
        assert pid is not None
        assert [child.pid for child in recorded(one.folder / "run")] == [pid]
        await one.lane.close()
        assert identity(pid) is None
        assert not recorded(one.folder / "run")
        assert one.ports_lost == 0


@pytest.mark.parametrize("guard_too", [False, True])
async def test_it_ends_when_its_node_is_killed(tmp_path: Path, guard_too: bool) -> None:
    node = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.models_registry.rpc.little_lane_node", str(tmp_path),
        stdout=PIPE, cwd=REPO, start_new_session=True,
    )  # fmt: skip
    assert node.stdout
    async with asyncio.timeout(60):
        guard, lane = [int(word) for word in (await node.stdout.readline()).split()]
    known = identity(lane)
    assert known is not None
    if guard_too:
        os.kill(guard, signal.SIGKILL)
    node.kill()
    await node.wait()
    try:
        await until(lambda: gone(lane), BOUND_S)
    finally:
        if identity(lane) == known:
            os.kill(lane, signal.SIGKILL)


async def test_the_nodes_key_is_in_no_command_line_and_no_environment(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        one = await made.node()
        seed = one.node.trust.identity.private_key.private_bytes_raw()
        shown = Path(f"/proc/{one.lane.pid}/cmdline").read_bytes()
        shown += Path(f"/proc/{one.lane.pid}/environ").read_bytes()
        assert seed not in shown
        assert seed.hex().encode() not in shown
        assert b"lane_child" in shown


async def test_after_its_death_it_is_there_again_with_port_grants_and_addresses(
    tmp_path: Path,
) -> None:
    server = FakeRpcServer()
    await server.start()
    async with rig(tmp_path) as made:
        host, worker = await made.pair()
        await worker.lane.grant(server.port, host.id, 4, [])
        port = await tunnel_port(host, worker, server, 4)
        assert await greeting_through(port) == hello_answer()
        old, listening = worker.lane.pid, worker.lane.listen_port
        assert old is not None
        os.kill(old, signal.SIGKILL)
        await until(lambda: worker.ports_lost, 10)
        await until(lambda: worker.lane.pid not in (None, old), 10)
        # The host's port still leads there: the address is the same, and so is the grant.
        async with asyncio.timeout(15):
            while True:
                if await greeting_through(port) == hello_answer():
                    break
                await asyncio.sleep(0.2)
        assert worker.lane.listen_port == listening
        # The host's own death takes its ports with it, and says so.
        assert host.lane.pid is not None
        os.kill(host.lane.pid, signal.SIGKILL)
        await until(lambda: host.ports_lost, 10)
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: host.lane.pid is not None, 10)
        async with asyncio.timeout(15):
            while True:
                try:
                    port = await tunnel_port(host, worker, server, 4)
                    break
                except LaneFault:
                    await asyncio.sleep(0.1)
        assert await greeting_through(port) == hello_answer()
    await server.close()


async def test_a_call_under_way_fails_when_the_process_dies(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        one = await made.node()
        assert one.lane.pid is not None
        os.kill(one.lane.pid, signal.SIGSTOP)
        waiting = asyncio.create_task(one.lane.prepare([]))
        await asyncio.sleep(0.1)
        os.kill(one.lane.pid, signal.SIGKILL)
        with pytest.raises(LaneFault, match="ended"):
            await waiting


async def test_a_port_that_nobody_waits_for_any_more_is_closed(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        host, worker = await made.pair()
        assert host.lane.pid is not None
        process = psutil.Process(host.lane.pid)

        def loopback_ports() -> set[int]:
            listening = (c for c in process.net_connections("tcp") if c.status == "LISTEN")
            return {c.laddr.port for c in listening if c.laddr.ip == "127.0.0.1"}

        before = loopback_ports()
        opening = asyncio.create_task(host.lane.open_port(worker.id, 50052, 1, []))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        # It is asked in order: what was asked before is open by now.
        kept = await host.lane.open_port(worker.id, 50052, 1, [])
        await until(lambda: loopback_ports() - before == {kept}, 5)


async def test_a_grant_withdrawn_while_the_process_comes_back_is_not_given_again(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as made:
        host, worker = await made.pair()
        lane = worker.lane
        for port in (7001, 7002):
            await lane.grant(port, host.id, 4, [])
        told: list[int] = []

        async def ask(command: cw.Command, limit_s: float | None = 1.0) -> cw.Done:
            if isinstance(command, cw.GiveGrant):
                told.append(command.port)
                lane.withdraw(7002)  # Its rpc-server ends in this moment.
            return cw.Done(0, lane.listen_port)

        overrule(lane, "_ask", ask)
        await lane._say_again()
        assert told == [7001]


async def test_a_revocation_reaches_the_process_and_cuts_the_tunnel(tmp_path: Path) -> None:
    server = FakeRpcServer()
    await server.start()
    async with rig(tmp_path) as made:
        host, worker = await made.pair()
        await worker.lane.grant(server.port, host.id, 1, [])
        port = await tunnel_port(host, worker, server, 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(hello())
        assert await reader.read(200) == hello_answer()
        worker.node.trust.revoke(host.id)
        worker.lane.trust_changed()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        assert await greeting_through(port) == b""
        await until(lambda: worker.lane.report.refused.get("node_revoked"), 10)
    await server.close()


async def test_a_port_whose_server_ends_is_told_of_and_one_whose_client_ends_is_not(
    tmp_path: Path,
) -> None:
    server = FakeRpcServer()
    await server.start()
    async with rig(tmp_path) as made:
        host, worker = await made.pair()
        await worker.lane.grant(server.port, host.id, 1, [])
        port = await tunnel_port(host, worker, server, 1)
        assert await greeting_through(port) == hello_answer()  # and closes
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(hello())
        assert await reader.read(200) == hello_answer()
        writer.transport.abort()  # as an engine that is killed
        await settled(host)
        assert host.port_lost == []
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(hello())
        assert await reader.read(200) == hello_answer()
        server.cut()
        await until(lambda: host.port_lost, 1.0)
        assert host.port_lost[0][0] == port
        assert await reader.read() == b""
        writer.close()
        worker.lane.withdraw(server.port)
        await greeting_through(port)
        await until(lambda: len(host.port_lost) == 2, 5.0)
        assert "no rpc-server here is yours" in host.port_lost[1][1]
    await server.close()


async def test_a_dropped_peers_tunnels_end_at_once(tmp_path: Path) -> None:
    server = FakeRpcServer()
    await server.start()
    async with rig(tmp_path) as made:
        host, worker = await made.pair()
        await worker.lane.grant(server.port, host.id, 1, [])
        port = await tunnel_port(host, worker, server, 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(hello())
        assert await reader.read(200) == hello_answer()
        began_s = asyncio.get_running_loop().time()
        host.lane.drop_peer(worker.id)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        assert asyncio.get_running_loop().time() - began_s < 1.0
    await server.close()


async def test_commands_that_cannot_be_done_say_why(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        one = await made.node()
        peer = NodeId("ab" * 32)
        assert "cannot be read" in (await one.lane.grant(5000, peer, 5, ["/no/such.gguf"]))[0]
        with pytest.raises(LaneFault, match="newer"):
            await one.lane.grant(5000, peer, 4, [])
        taken = await made.node()
        with pytest.raises(LaneFault, match=r"in use|Errno"):
            await one.lane.listen("127.0.0.1", taken.lane.listen_port)
        with pytest.raises(LaneFault, match="could not be fetched"):
            await one.lane.fetch(peer, "m", tmp_path, lambda at: None)


async def test_a_model_is_fetched_by_the_processes_with_progress(tmp_path: Path) -> None:
    model = write_model(tmp_path / "owner/m.gguf", tensors(*[6 << 20] * 4))
    folder = tmp_path / "models"
    folder.mkdir()
    async with rig(tmp_path) as made:
        getter, owner = await made.pair()
        owner.lane.share({"m": [str(model)]})
        seen: list[Progress] = []
        (path,) = await getter.lane.fetch(owner.id, "m", folder, seen.append)
        assert path.read_bytes() == model.read_bytes()
        assert seen[-1].name == "m"
        assert seen[-1].done_bytes == seen[-1].total_bytes == model.stat().st_size
        owner.lane.share({})
        with pytest.raises(LaneFault, match="not here"):
            await getter.lane.fetch(owner.id, "m", tmp_path / "elsewhere", seen.append)


@pytest.mark.slow
async def test_a_fetch_that_is_cancelled_stops_and_keeps_what_came(tmp_path: Path) -> None:
    model = write_model(tmp_path / "owner/m.gguf", tensors(*[30 << 20] * 4))
    folder = tmp_path / "models"
    folder.mkdir()
    async with rig(tmp_path) as made:
        getter, owner = await made.pair()
        owner.lane.share({"m": [str(model)]})
        begun = asyncio.Event()

        def progressed(at: Progress) -> None:
            if at.done_bytes > 9 << 20:
                begun.set()

        fetching = asyncio.create_task(getter.lane.fetch(owner.id, "m", folder, progressed))
        await begun.wait()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await settled(owner)
        assert not (folder / "m.gguf").exists()
        assert list(folder.rglob("*.part"))
        seen: list[Progress] = []
        await getter.lane.fetch(owner.id, "m", folder, seen.append)
        assert seen[0].done_bytes >= 8 << 20
        assert (folder / "m.gguf").read_bytes() == model.read_bytes()


async def test_the_nodes_loop_does_not_wait_for_a_lane_that_is_stuck(tmp_path: Path) -> None:
    """Its process is stopped: telling it things costs nothing, and it is given up past the bound."""
    async with rig(tmp_path) as made:
        one = await made.node()
        assert one.lane.pid is not None
        os.kill(one.lane.pid, signal.SIGSTOP)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for _ in range(2000):
            one.lane.trust_changed()
        assert loop.time() - began_s < 2.0
        os.kill(one.lane.pid, signal.SIGCONT)
        await one.lane.prepare([])
