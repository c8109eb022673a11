"""The console as a user gets it after `make setup`: collected, hashed, compressed, cached for ever."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Response

from tests.conftest import REPO
from tests.e2e.browser import chromium
from tests.e2e.node_process import NodeProcess

pytestmark = [pytest.mark.browser, pytest.mark.engine, pytest.mark.e2e]

TRANSFER_MAX_BYTES = 400_000
"""Everything that the first visit fetches, headers and the page itself included."""

SMALL_BYTES = 400
"""Below this compressing gains nothing worth a file."""

HASHED = re.compile(r"\.[0-9a-f]{12}\.\w+$")
ROOMS = ("meshsite", "nodes", "proxy", "models_registry", "static", "templates", "manage.py")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the code with its assets collected: this checkout stays as it is."""
    folder = tmp_path_factory.mktemp("checkout")
    for room in ROOMS:
        source = REPO / room
        if source.is_dir():
            shutil.copytree(source, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / room)
    collect = [sys.executable, "manage.py", "collectstatic", "--noinput", "--clear", "-v", "0"]
    done = subprocess.run(collect, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_module_is_hashed_compressed_immutable_and_the_visit_small(
    browser: Browser, checkout: Path, home: Path, engine_dir: Path
) -> None:
    answers: list[Response] = []

    def note(answer: Response) -> None:
        answers.append(answer)

    errors: list[str] = []
    with NodeProcess(home, engine=engine_dir, checkout=checkout) as node:
        page = browser.new_page()
        page.on("response", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("requestfailed", lambda request: errors.append(request.url))
        page.goto(node.console)
        page.wait_for_selector("body[data-phase=live]")
        page.wait_for_load_state("networkidle")
        files = [answer for answer in answers if "/static/" in answer.url]
        for answer in files:
            headers = answer.headers
            assert answer.status == 200, answer.url
            assert HASHED.search(answer.url), f"not hashed: {answer.url}"
            assert "immutable" in headers["cache-control"], answer.url
            if len(answer.body()) > SMALL_BYTES and not answer.url.endswith(".png"):
                assert headers.get("content-encoding") in ("gzip", "br"), answer.url
        loaded = {HASHED.sub(".js", answer.url).rsplit("/", 1)[1] for answer in files}
        modules = {path.name for path in (REPO / "static" / "console").glob("*.js")}
        assert modules - {"go_home.js"} <= loaded
        total = page.evaluate(
            """performance.getEntriesByType("resource").concat(
                performance.getEntriesByType("navigation")).reduce((sum, e) => sum + e.transferSize, 0)"""
        )
        assert 10_000 < total <= TRANSFER_MAX_BYTES
        answers.clear()
        page.goto(f"{node.console}/admin/login/")
        assert all(HASHED.search(a.url) for a in answers if "/static/" in a.url)
        page.close()
    assert not errors
