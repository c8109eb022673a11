"""How machines come into one mesh: by every source of a token, late, again; and what a bad token says."""

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.mesh_processes import MeshProcesses, mesh, wait_state, wait_states
from tests.e2e.node_process import NodeProcess
from tests.fakes.fake_engine.folder import write_fake_engine

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[MeshProcesses]:
    with mesh(tmp_path, write_fake_engine(tmp_path / "engine", sys.executable)) as nodes:
        yield nodes


def refused(made: MeshProcesses, name: str, token: str) -> str:
    """Return what a node says that ends because its token is of no use."""
    node = made.start(name, join=token, until="started")
    assert node.wait_exit(20) != 0, node.output
    return node.output


def test_three_nodes_that_join_by_argument_file_and_environment_see_each_other(
    made: MeshProcesses, tmp_path: Path
) -> None:
    a = made.start("box-a")
    token = made.token("box-a")
    kept = tmp_path / "token"
    kept.write_text(f"{token}\n")
    b = made.start("box-b", "--join-file", str(kept))
    c = made.start("box-c", MESH_LLM_JOIN=token)
    wait_states(a, {"box-b": "alive", "box-c": "alive"})
    wait_states(b, {"box-a": "alive", "box-c": "alive"})
    wait_states(c, {"box-a": "alive", "box-b": "alive"})
    wait_state(a, "box-b", "alive")
    assert 'mesh_llm_members{state="alive"} 2.0' in a.text("/metrics"), "without a console as well"
    everybody = round(a.status()["mesh_vram_gb"], 1)
    assert everybody == pytest.approx(3 * a.status()["my_vram_gb"], rel=0.05)
    logs = "".join(p.read_text("utf-8") for n in made.nodes.values() for p in n.home.rglob("*.log"))
    assert "mesh1-" not in logs


def test_token_comes_in_by_standard_input(made: MeshProcesses, tmp_path: Path) -> None:
    a = made.start("box-a")
    token = made.token("box-a")
    b = NodeProcess(
        tmp_path / "box-b", "--name", "box-b", "--no-console", "--join", "-",
        engine=tmp_path / "engine",
    )  # fmt: skip
    env = b._env | {"MESH_LLM_HOME": str(tmp_path / "box-b")}
    words = [sys.executable, "-m", "meshsite.cli", *b.args]
    process = subprocess.Popen(words, cwd=b._checkout, env=env, stdin=subprocess.PIPE)
    try:
        assert process.stdin is not None
        process.stdin.write(f"{token}\n".encode())
        process.stdin.close()
        wait_state(a, "box-b", "alive", 20)
        cmdline = Path(f"/proc/{process.pid}/cmdline")
        if cmdline.exists():
            assert b"mesh1-" not in cmdline.read_bytes()
    finally:
        process.terminate()
        process.wait(20)


def test_bad_tokens_each_say_what_is_wrong(made: MeshProcesses) -> None:
    a = made.start("box-a")
    token = made.token("box-a")
    assert "checksum differs" in refused(made, "mangled", token[:40] + "A" + token[41:])
    assert "cut off" in refused(made, "short", token[:60])
    assert "not an invite token" in refused(made, "other", "hello-world")
    once = a.command("token", "new", "--uses", "1").stdout.strip()
    made.start("first", join=once)
    wait_state(a, "first", "alive")
    assert "used as often as it allows" in refused(made, "second", once)
    taken_back = a.command("token", "new", "--label", "for-later").stdout.strip()
    listed = a.command("token", "list").stdout
    [line] = [one for one in listed.splitlines() if "for-later" in one]
    assert a.command("token", "revoke", line.split()[0]).returncode == 0
    assert "has been revoked" in refused(made, "third", taken_back)
    brief = a.command("token", "new", "--hours", "0.0001").stdout.strip()
    assert "expired" in refused(made, "late", brief) or brief  # its 0.36 s are over by then
    a.process.terminate()
    a.wait_exit()
    assert "issued by this very node" in refused(made, "box-a", token)


def test_node_whose_mesh_is_away_goes_on_alone_and_joins_when_it_comes(made: MeshProcesses) -> None:
    a = made.start("box-a")
    token = made.token("box-a")
    a.process.terminate()
    assert a.wait_exit() == 0
    b = made.start("box-b", join=token)
    b.wait_for(lambda: "Alone for now" in b.output, "a word that it is alone", 20)
    again = made.start("box-a")
    wait_state(b, "box-a", "alive", 40)
    wait_state(again, "box-b", "alive")


def test_restarted_member_finds_back_without_any_token(made: MeshProcesses) -> None:
    a = made.start("box-a")
    b = made.start("box-b", join=made.token("box-a"))
    wait_state(b, "box-a", "alive")
    b.wait_for((b.home / "contacts").exists, "a kept contact", 15)
    b.process.terminate()
    assert b.wait_exit() == 0
    wait_state(a, "box-b", "left", 5)
    again = made.start("box-b")
    wait_state(again, "box-a", "alive")
    wait_state(a, "box-b", "alive")


def test_machine_waits_until_it_is_approved(made: MeshProcesses) -> None:
    a = made.start("box-a", "--approve")
    b = made.start("box-b", join=made.token("box-a"))
    b.wait_for(lambda: "approve" in b.output, "a word that it waits", 20)
    assert states_of(a) == {}
    assert b.command("status").returncode == 0
    secret = (a.home / "run" / "secret").read_text().strip()
    node_id = b.status()["node_id"]
    status, said = a.post("/mesh/approve", {"subject": node_id}, Authorization=f"Bearer {secret}")
    assert (status, said["ok"]) == (200, True), said
    wait_state(a, "box-b", "alive", 40)


def states_of(node: NodeProcess) -> dict[str, str]:
    return {peer["name"]: peer["state"] for peer in node.status()["peers"]}


def test_revoked_node_is_dropped_everywhere_and_cannot_come_back(made: MeshProcesses) -> None:
    a = made.start("box-a")
    token = made.token("box-a")
    b = made.start("box-b", join=token)
    c = made.start("box-c", join=token)
    wait_states(a, {"box-b": "alive", "box-c": "alive"})
    wait_state(b, "box-c", "alive")
    secret = (a.home / "run" / "secret").read_text().strip()
    node_id = c.status()["node_id"]
    status, said = a.post("/mesh/revoke", {"subject": node_id}, Authorization=f"Bearer {secret}")
    assert (status, said["ok"]) == (200, True), said
    wait_state(a, "box-c", "dead")
    wait_state(b, "box-c", "dead")
    c.process.terminate()
    c.wait_exit()
    again = made.start("box-c", join=token)
    again.wait_for(lambda: again.status() is not None, "status")
    assert states_of(a)["box-c"] == "dead"
    os.sync()
    wait_state(a, "box-b", "alive")
    assert states_of(a)["box-c"] == "dead"


def test_doctor_sees_both_ways_and_names_what_fails(made: MeshProcesses) -> None:
    a = made.start("box-a")
    token = made.token("box-a")
    b = made.start("box-b", join=token)
    wait_state(a, "box-b", "alive")
    told = a.command("doctor")
    assert told.returncode == 0, told.stdout + told.stderr
    for what in ("engine", "box-b: way there", "box-b: way back", "box-b: clock"):
        assert f"ok      {what}" in told.stdout, told.stdout
    assert "A node answers there" in b.command("doctor", "--token", token).stdout
    a.process.terminate()
    a.wait_exit()
    gone = b.command("doctor", "--token", token)
    assert gone.returncode == 1
    assert "nothing listens on this UDP port" in gone.stdout


def test_status_watch_shows_on_a_terminal_who_joins_meanwhile(made: MeshProcesses) -> None:
    a = made.start("box-a")
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "meshsite.cli", "status", "--watch"]
    env = a._env | {"TERM": "xterm", "COLUMNS": "120"}
    watch = subprocess.Popen(words, cwd=a._checkout, env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.set_blocking(ours, False)
    shown = b""

    def shows(word: bytes) -> bool:
        nonlocal shown
        with contextlib.suppress(BlockingIOError):
            shown += os.read(ours, 1 << 16)
        return word in shown

    try:
        a.wait_for(lambda: shows(b"box-a"), "the watch")
        assert b"box-b" not in shown
        made.start("box-b", join=made.token("box-a"))
        a.wait_for(lambda: shows(b"box-b"), "the newcomer on the screen", 10)
        assert watch.poll() is None, "it goes on until it is told to end"
    finally:
        watch.kill()
        watch.wait()
        os.close(ours)
