"""Pictures of the console from a scripted node: `make screenshots`.

Writes docs/images/console.png (the mesh) and console-phone.png (the chat) for the README; `--all DIR`
also takes every view and every scene, desktop and phone, light and dark, to look at. Needs a Chromium.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

import tests.conftest  # noqa: E402, F401  (a home of its own, and Django set up)
from nodes.access import new_operator_link  # noqa: E402
from tests.e2e.browser import chromium  # noqa: E402
from tests.fakes import traffic  # noqa: E402
from tests.fakes.console_thread import ConsoleThread  # noqa: E402
from tests.fakes.scenes import SCENES  # noqa: E402

IMAGE_MAX_BYTES = 200_000
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
THEMES = ("light", "dark")
VIEWS = ("mesh", "models", "chat", "requests", "add", "use")
ANSWER = (
    "A **mesh** is a group of machines that answer as one:\n\n"
    "1. each lends its memory,\n2. each knows what the others serve,\n3. any of them takes a question.\n\n"
    '```python\nclient = OpenAI(base_url="http://localhost:9337/v1")\n```\n'
)


def main() -> None:
    """Take the pictures."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--all", type=Path, metavar="DIR", help="also every view, into this folder")
    everything: Path | None = asked.parse_args().all
    images = REPO / "docs" / "images"
    images.mkdir(parents=True, exist_ok=True)
    console = ConsoleThread()
    try:
        with chromium() as browser:
            with _page(browser, console, "split", "desktop", "light", "mesh") as page:
                _shoot(page, images / "console.png")
            with _page(browser, console, "three", "phone", "light", "chat") as page:
                _shoot(page, images / "console-phone.png")
            if everything is not None:
                everything.mkdir(parents=True, exist_ok=True)
                _take_all(browser, console, everything)
    finally:
        console.end()


def _take_all(browser: Browser, console: ConsoleThread, folder: Path) -> None:
    for size in SIZES:
        for theme in THEMES:
            for scene in SCENES:
                for view in VIEWS if scene == "split" else ("mesh", "models"):
                    with _page(browser, console, scene, size, theme, view) as page:
                        _shoot(page, folder / f"{view}-{scene}-{size}-{theme}.png")
            for path in ("login", "nothing-here"):
                with _page(browser, console, "one", size, theme, "mesh") as page:
                    page.goto(f"{console.url}/{path}")
                    _shoot(page, folder / f"{path}-{size}-{theme}.png")


@contextmanager
def _page(
    browser: Browser, console: ConsoleThread, scene: str, size: str, theme: str, view: str
) -> Iterator[Page]:
    console.restart_node()
    console.do(lambda node: SCENES[scene]().play(node))
    console.do(traffic.play)
    console.do(lambda node: setattr(node.api, "deltas", [{"content": ANSWER}]))
    width, height = SIZES[size]
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if theme == "dark" else "light",
    )
    page.goto(new_operator_link(console.url))
    page.wait_for_url(f"{console.url}/")
    page.goto(f"{console.url}/#{view}")
    page.wait_for_selector("body[data-phase=live]")
    _act(page, view)
    page.wait_for_timeout(600)
    yield page
    page.close()


def _act(page: Page, view: str) -> None:
    """Do what makes the view show what it can."""
    if view == "chat":
        page.fill("#prompt", "What is a mesh?")
        page.press("#prompt", "Enter")
        page.locator(".message.assistant").last.get_by_text("Retry").wait_for()
    elif view == "requests":
        page.locator("#request-table tbody button").nth(1).click()
    elif view == "add":
        page.click("#join-show")
        page.get_by_role("button", name="Show as QR code").click()


def _shoot(page: Page, path: Path) -> None:
    page.mouse.move(0, 0)
    page.screenshot(path=path, animations="disabled", caret="hide")
    size = path.stat().st_size
    if path.is_relative_to(REPO) and size > IMAGE_MAX_BYTES:
        raise SystemExit(
            f"{path.name} has {size} bytes, more than {IMAGE_MAX_BYTES}: make it smaller."
        )
    sys.stdout.write(f"{path} ({size // 1000} kB)\n")


if __name__ == "__main__":
    main()
