"""Logs a person or a machine reads; start-up lines; what never stands in a log."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsite.greeting import Greeting, lines
from meshsite.node_logging import FILE_MAX_BYTES, FILES_KEPT, configure

FACTS = Greeting(
    version="0.1.0",
    node_name="box",
    api_url="http://localhost:9337",
    console_url="http://localhost:3131",
    operator_url="http://localhost:3131/operator/abc",
    models=("tiny",),
    token="mesh1-secret",
    needs_key=False,
)


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = before, level


def test_json_lines_carry_their_facts(tmp_path: Path) -> None:
    configure(tmp_path, as_json=True)
    logging.getLogger("mesh.x").warning("Engine %s ended.", "a", extra={"kind": "engine_exited"})
    line = json.loads((tmp_path / "node.log").read_text().splitlines()[-1])
    assert (line["level"], line["text"], line["kind"]) == (
        "warning", "Engine a ended.", "engine_exited",
    )  # fmt: skip


def test_text_lines_name_the_level_only_when_it_matters(tmp_path: Path) -> None:
    configure(tmp_path, as_json=False)
    logging.getLogger("mesh.x").info("All well.")
    logging.getLogger("mesh.x").error("Not well.")
    first, second = (tmp_path / "node.log").read_text().splitlines()
    assert first.endswith(" All well.")
    assert "info" not in first
    assert second.endswith("error: Not well.")


def test_log_files_are_bounded(tmp_path: Path) -> None:
    configure(tmp_path, as_json=False)
    line = "x" * 100_000
    for _ in range(2 * FILE_MAX_BYTES // len(line) * (FILES_KEPT + 2) // 2):
        logging.getLogger("mesh.x").info(line)
    files = list(tmp_path.glob("node.log*"))
    assert len(files) == FILES_KEPT + 1
    assert sum(f.stat().st_size for f in files) <= FILE_MAX_BYTES * (FILES_KEPT + 1) + 200_000


def test_greeting_says_what_is_served_where_and_how_to_use_it() -> None:
    text = "\n".join(lines(FACTS))
    for word in ("tiny", "http://localhost:9337/v1", "http://localhost:3131", "mesh1-secret",
                 "OpenAI(base_url=", "curl "):  # fmt: skip
        assert word in text


def test_greeting_shows_the_key_only_where_one_is_needed() -> None:
    from dataclasses import replace

    assert "Bearer" not in "\n".join(lines(FACTS))
    assert "Bearer YOUR-KEY" in "\n".join(lines(replace(FACTS, needs_key=True)))
