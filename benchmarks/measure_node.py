"""The node itself with the real engine: how fast it starts, and what it costs while nothing happens."""

import http.client
import json
import socket
import subprocess
import sys
import time

from benchmarks.plan import Plan
from benchmarks.process import (
    REPO,
    TargetFailed,
    counted,
    cpu_s,
    free_port,
    rss_bytes,
    start,
    stop,
)
from benchmarks.results import Results
from benchmarks.target import OURS, Ground
from benchmarks.target_node import node_argv, node_env, served_model

LIMIT_S = 60.0


def measure_start(plan: Plan, results: Results, ground: Ground) -> None:
    """From the exec to the open port and to the first generated answer; the first start is a warm-up."""
    if not _possible(results, ground, "start_port", "start_answer"):
        return
    for number in range(-1, plan.starts):
        port = free_port()
        argv = node_argv(ground.real_engine, port, "--no-console", *ground.model_argv())
        began_s = time.monotonic()
        node = start(argv, ground.scratch / "start.log", node_env(ground.scratch / "home-start"))
        try:
            open_s = _wait_for_port(node, port) - began_s
            answer_s = _wait_for_answer(node, port) - began_s
        except TargetFailed as error:
            results.excuse("start_port", OURS, str(error))
            results.excuse("start_answer", OURS, str(error))
            return
        finally:
            stop(node)
        if number >= 0:
            results.add("start_port", OURS, number, open_s)
            results.add("start_answer", OURS, number, answer_s)


def measure_idle(plan: Plan, results: Results, ground: Ground) -> None:
    """CPU and memory of a node that has answered once, without a console tab and then with one."""
    keys = ("idle_cpu", "idle_rss", "idle_cpu_alone", "idle_rss_alone")
    if not _possible(results, ground, *keys):
        return
    port, console = free_port(), free_port()
    argv = node_argv(ground.real_engine, port, "--console", str(console), *ground.model_argv())
    node = start(argv, ground.scratch / "idle.log", node_env(ground.scratch / "home-idle"))
    try:
        _wait_for_answer(node, port)
        _watch(node, plan, results, "_alone")
        _page(console)
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.console_tab", str(console)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=REPO,
        ) as tab:
            assert tab.stdout is not None
            if tab.stdout.readline() != b"open\n":
                raise TargetFailed("the console refused its websocket")
            _watch(node, plan, results, "")
            closed_early = tab.poll() is not None
        if closed_early:
            raise TargetFailed("the console closed its websocket while it was measured")
    except TargetFailed as error:
        for key in keys:
            results.excuse(key, OURS, str(error))
    finally:
        stop(node)


def _possible(results: Results, ground: Ground, *keys: str) -> bool:
    missing = ground.absent_real
    if not (REPO / "meshsite" / "cli.py").exists():
        missing = "the node's command does not exist in this tree"
    for key in keys if missing else ():
        results.excuse(key, OURS, missing)
    return not missing


def _watch(node: "subprocess.Popen[bytes]", plan: Plan, results: Results, suffix: str) -> None:
    time.sleep(plan.idle_settle_s)
    pids = counted(node.pid)
    before_s, began_s = cpu_s(pids), time.monotonic()
    time.sleep(plan.idle_s)
    share = (cpu_s(pids) - before_s) / (time.monotonic() - began_s)
    results.add("idle_cpu" + suffix, OURS, 0, share)
    results.add("idle_rss" + suffix, OURS, 0, rss_bytes(pids))


def _page(console: int) -> None:
    """Load the page once, as the tab did before it opened the websocket."""
    connection = http.client.HTTPConnection("127.0.0.1", console, timeout=20)
    try:
        connection.request("GET", "/")
        if connection.getresponse().status >= 400:
            raise TargetFailed("the console's page answered an error")
    except OSError as error:
        raise TargetFailed(f"the console did not answer: {error}") from error
    finally:
        connection.close()


def _wait_for_port(node: "subprocess.Popen[bytes]", port: int) -> float:
    limit_s = time.monotonic() + LIMIT_S
    while time.monotonic() < limit_s and node.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.005)
        else:
            return time.monotonic()
    raise TargetFailed("the API port did not open")


def _wait_for_answer(node: "subprocess.Popen[bytes]", port: int) -> float:
    limit_s = time.monotonic() + LIMIT_S
    while time.monotonic() < limit_s and node.poll() is None:
        if (model := served_model(port)) and _answers(port, model):
            return time.monotonic()
        time.sleep(0.01)
    raise TargetFailed("the node gave no answer")


def _answers(port: int, model: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}
    try:
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
        )
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
