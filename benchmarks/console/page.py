"""One page of the console in a real Chromium, asked through the DevTools protocol what it costs.

Wall-clock figures belong to the machine and to whatever else it does. CPU figures are the main thread's
own time (the trace's thread durations, which Linux counts without what others took), so they hold on a
busy machine too.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page

TRACE = ["toplevel", "disabled-by-default-devtools.timeline", "__metadata"]
MAIN_THREAD = "CrRendererMain"

WATCH_FRAMES = """() => {
  const seen = window.benchFrames = { longest: 0, over: 0, count: 0 };
  let last = performance.now();
  const step = (now) => {
    const took = now - last;
    last = now;
    seen.count += 1;
    seen.longest = Math.max(seen.longest, took);
    if (took > 100) seen.over += 1;
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}"""


@dataclass(frozen=True)
class Visit:
    """A first visit, nothing cached."""

    transfer_bytes: int
    """All that came over the wire, headers included."""
    requests: int
    first_paint_ms: float


@dataclass(frozen=True)
class Memory:
    """A page after a forced collection of garbage."""

    heap_bytes: int
    nodes: int
    listeners: int


def visit(browser: Browser, url: str) -> Visit:
    """Return what a first visit costs; `url` is an operator's link or the page."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    cdp = context.new_cdp_session(page)
    sizes: list[float] = []
    cdp.send("Network.enable")
    cdp.on("Network.loadingFinished", lambda told: sizes.append(told["encodedDataLength"]))
    page.goto(url)
    page.wait_for_selector("body[data-phase=live]")
    page.wait_for_load_state("networkidle")
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    context.close()
    return Visit(round(sum(sizes)), len(sizes), float(painted))


def memory(cdp: CDPSession) -> Memory:
    """Collect garbage, twice (what the first one frees may free more), and count."""
    for _ in range(2):
        cdp.send("HeapProfiler.collectGarbage")
    used = cdp.send("Runtime.getHeapUsage")["usedSize"]
    counts = cdp.send("Memory.getDOMCounters")
    return Memory(int(used), counts["nodes"], counts["jsEventListeners"])


def frames(page: Page) -> dict[str, float]:
    """Return {longest ms, over 100 ms, count} since the last call."""
    found: dict[str, float] = page.evaluate(
        "() => { const seen = { ...window.benchFrames };"
        " Object.assign(window.benchFrames, { longest: 0, over: 0, count: 0 }); return seen; }"
    )
    return found


@contextmanager
def traced(browser: Browser, page: Page) -> Iterator[list[float]]:
    """Yield a list that holds, after the block, the CPU milliseconds of each task of the main thread."""
    tasks: list[float] = []
    browser.start_tracing(page=page, categories=TRACE)
    try:
        yield tasks
    finally:
        trace = json.loads(browser.stop_tracing())["traceEvents"]
        tasks.extend(_main_tasks(trace, page.url))


def _main_tasks(trace: list[dict[str, Any]], url: str) -> list[float]:
    mains = {
        (told["pid"], told["tid"])
        for told in trace
        if told["name"] == "thread_name" and told["args"]["name"] == MAIN_THREAD
    }
    return [
        told.get("tdur", told["dur"]) / 1000
        for told in trace
        if told["name"].endswith("RunTask") and told.get("ph") == "X"
        and (told["pid"], told["tid"]) in mains
    ]  # fmt: skip
