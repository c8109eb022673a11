"""Pictures of the console for the README, from a real node on the demo model: `make screenshots`.

Writes docs/images/console.png and console-phone.png; `--all DIR` also takes every view in both
themes, to look at. Needs the engine and a Chromium, as the tests do.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from tests.conftest import _ENGINE  # noqa: E402
from tests.e2e.browser import chromium  # noqa: E402
from tests.e2e.node_process import NodeProcess  # noqa: E402

IMAGE_MAX_BYTES = 200_000
WIDE = (1280, 800)
PHONE = (390, 844)
QUESTIONS = ("What is a mesh?", "What happens when a machine dies?")


def main() -> None:
    """Start a node, let it answer, take the pictures."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--all", type=Path, metavar="DIR", help="also every view, into this folder")
    everything: Path | None = asked.parse_args().all
    with tempfile.TemporaryDirectory() as folder:
        arguments = ("--name", "study")
        with (
            NodeProcess(Path(folder) / "home", *arguments, engine=_ENGINE) as node,
            chromium() as browser,
        ):
            images = REPO / "docs" / "images"
            images.mkdir(parents=True, exist_ok=True)
            _take(browser, node, WIDE, "light", lambda page: _shoot(page, images / "console.png"))
            _take(
                browser, node, PHONE, "light",
                lambda page: _shoot(page, images / "console-phone.png"),
            )  # fmt: skip
            if everything is not None:
                everything.mkdir(parents=True, exist_ok=True)
                _take_all(browser, node, everything)


def _take(
    browser: Browser,
    node: NodeProcess,
    size: tuple[int, int],
    theme: str,
    then: Callable[[Page], None],
) -> None:
    width, height = size
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if theme == "dark" else "light",
    )
    page.goto(node.console)
    page.wait_for_selector("body[data-phase=live]")
    page.click("[data-view-link=chat]")
    for question in QUESTIONS:
        page.fill("#prompt", question)
        page.press("#prompt", "Enter")
        page.locator(".message.assistant").last.get_by_text("Retry").wait_for()
    then(page)
    page.close()


def _take_all(browser: Browser, node: NodeProcess, folder: Path) -> None:
    for name, size in (("desktop", (1440, 900)), ("phone", PHONE)):
        for theme in ("light", "dark"):

            def views(page: Page, stem: str = f"{name}-{theme}") -> None:
                _shoot(page, folder / f"{stem}-chat.png")
                for view in ("mesh", "models", "use"):
                    page.click(f"[data-view-link={view}]")
                    if view == "models":
                        page.click("#log-card summary")
                        page.wait_for_timeout(700)
                    _shoot(page, folder / f"{stem}-{view}.png")
                for path in ("login", "nothing-here"):
                    page.goto(f"{node.console}/{path}")
                    _shoot(page, folder / f"{stem}-{path}.png")

            _take(browser, node, size, theme, views)


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
