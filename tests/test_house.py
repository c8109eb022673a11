"""The house's line: no file and no function outgrows what one reader holds in mind.

A ratchet: the exceptions below may shrink or vanish, never grow; a new one needs a reason in review.
"""

import ast
from pathlib import Path

import pytest

from tests.conftest import REPO

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
ROOMS = ("meshsite", "nodes", "models_registry", "proxy", "deploy", "benchmarks", "tests", "static")
LONGER_FILES: dict[str, int] = {}
"""Path to the lines it may have."""


def sources(*endings: str) -> list[Path]:
    found = [
        path
        for room in ROOMS
        for ending in endings
        for path in (REPO / room).rglob(f"*.{ending}")
        if "migrations" not in path.parts and ".venv" not in path.parts
    ]
    assert found
    return found


@pytest.mark.parametrize("ending", ["py", "js", "css"])
def test_no_file_is_longer_than_one_concept_needs(ending: str) -> None:
    too_long = {}
    for path in sources(ending):
        name = str(path.relative_to(REPO))
        lines = path.read_text("utf-8").count("\n")
        if lines > LONGER_FILES.get(name, FILE_LINES_MAX):
            too_long[name] = lines
    assert not too_long


def test_no_function_is_longer_than_a_screen() -> None:
    too_long = {}
    for path in sources("py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    too_long[f"{path.relative_to(REPO)}:{node.name}"] = lines
    assert not too_long


def test_only_the_settings_read_the_environment() -> None:
    """A child's own environment is another matter: those files are named here with their reason."""
    allowed = {
        "meshsite/settings.py": "the one reader",
        "meshsite/cli.py": "tells Django where its settings are",
        "meshsite/asgi.py": "tells Django where its settings are",
        "meshsite/django_side.py": "tells Django where its settings are",
        "models_registry/supervision/commands.py": "makes the engine's environment from its own",
        "models_registry/engine/source.py": "makes the compiler's environment from its own",
        "models_registry/engine/steps.py": "makes apt's environment from its own",
        "models_registry/engine/probe.py": "makes the engine's environment from its own",
    }
    readers = []
    for room in ("meshsite", "nodes", "models_registry", "proxy"):
        for path in (REPO / room).rglob("*.py"):
            text = path.read_text("utf-8")
            if ("os.environ" in text or "getenv(" in text) and str(
                path.relative_to(REPO)
            ) not in allowed:
                readers.append(str(path.relative_to(REPO)))
    assert not readers


IO_MODULES = {"asyncio", "socket", "time", "os", "logging", "django", "threading", "cryptography"}


def test_no_pure_file_imports_io_or_throws_dice_of_its_own() -> None:
    """A `random.Random` that was seeded outside may be handed in; the module's own dice may not be used."""
    guilty = []
    for path in (REPO / "nodes" / "mesh").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module.split(".")[0]]
            guilty += [f"{path.name}: {name}" for name in names if name in IO_MODULES]
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                dice = node.value.id == "random" and node.attr != "Random"
                guilty += [f"{path.name}: random.{node.attr}"] if dice else []
    assert not guilty
