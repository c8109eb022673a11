"""A model that another machine of the mesh has on disk comes from there, and not from the hub."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models_registry.catalogue import entries
from models_registry.demo.synthesize import synthesize
from tests.e2e.mesh_processes import MeshProcesses, wait_state
from tests.e2e.node_process import NodeProcess
from tests.fakes.hub import FakeHub

pytestmark = [pytest.mark.e2e, pytest.mark.engine]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of some 200 MB: long enough under way to be watched."""
    return synthesize(tmp_path_factory.mktemp("models") / "big200.gguf", "big200")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        yield running


def folder_with(tmp_path: Path, name: str, *models: tuple[Path, str]) -> str:
    folder = tmp_path / name
    folder.mkdir()
    for source, stem in models:
        shutil.copy(source, folder / f"{stem}.gguf")
    return str(folder)


def answer_of(node: NodeProcess) -> object:
    return node.post("/v1/completions", {"model": "large-1b-q8_0", "prompt": "a"})[1]


def test_load_fetches_from_the_member_with_progress_and_asks_no_hub(
    made: MeshProcesses, tmp_path: Path, models_dir: Path, large: Path, hub: FakeHub
) -> None:
    tiny = (models_dir / "tiny.gguf", "tiny")
    a_folder = folder_with(tmp_path, "a-models", tiny, (large, "Large-1B-Q8_0"))
    b_folder = folder_with(tmp_path, "b-models", (models_dir / "draft.gguf", "draft"))
    made.start("box-a", "--models-dir", a_folder, "--model", "tiny", until="ready")
    b = made.start(
        "box-b", "--models-dir", b_folder, "--model", "draft", "--serve-all",
        join=made.token("box-a"), until="ready", HF_ENDPOINT=hub.url,
    )  # fmt: skip
    wait_state(b, "box-a", "alive")
    b.wait_for(
        lambda: any("Large-1B-Q8_0" in peer["on_disk"] for peer in b.status()["peers"]), "its disk"
    )
    asking = threading.Thread(target=b.command, args=("load", "large-1b-q8_0"))
    asking.start()
    b.wait_for(lambda: "fetching from box-a" in json.dumps(answer_of(b)), "its progress")
    asking.join()
    assert "Large-1B-Q8_0 was fetched from box-a." in b.output
    arrived = Path(b_folder) / "Large-1B-Q8_0.gguf"
    assert arrived.read_bytes() == large.read_bytes()
    b.wait_for(
        lambda: "Large-1B-Q8_0" in {m["id"] for m in b.get("/v1/models")[1]["data"]}, "the model"
    )
    assert hub.requests == []


def test_joiner_gets_the_model_it_is_started_with_from_the_member(
    made: MeshProcesses, tmp_path: Path, models_dir: Path, hub: FakeHub
) -> None:
    entry = min(entries(), key=lambda one: one.size_bytes)
    a_folder = folder_with(tmp_path, "a-models", (models_dir / "tiny.gguf", entry.stem))
    b_folder = folder_with(tmp_path, "b-models")
    made.start("box-a", "--models-dir", a_folder, "--model", entry.name, until="ready")
    b = made.start(
        "box-b", "--models-dir", b_folder, "--model", entry.name, join=made.token("box-a"),
        HF_ENDPOINT=hub.url,
    )  # fmt: skip
    b.wait_for(lambda: f"{entry.stem} was fetched from box-a." in b.output, "the file")
    assert (Path(b_folder) / f"{entry.stem}.gguf").stat().st_size > 1_000_000
    assert hub.requests == []


def test_model_that_the_mesh_assigns_comes_from_the_member(
    made: MeshProcesses, tmp_path: Path, models_dir: Path, hub: FakeHub
) -> None:
    """A has both and serves the first; the joiner, whose disk is empty, is asked for the second."""
    entry = min(entries(), key=lambda one: one.size_bytes)
    tiny = models_dir / "tiny.gguf"
    a_folder = folder_with(tmp_path, "a-models", (tiny, "tiny"), (tiny, entry.stem))
    b_folder = folder_with(tmp_path, "b-models")
    a = made.start(
        "box-a", "--models-dir", a_folder, "--model", "tiny", "--model", entry.name, until="ready"
    )
    b = made.start("box-b", "--models-dir", b_folder, join=made.token("box-a"), HF_ENDPOINT=hub.url)
    b.wait_for(lambda: f"{entry.stem} was fetched from box-a." in b.output, "the file")
    a.wait_for(
        lambda: entry.stem in {m["id"] for m in a.get("/v1/models")[1]["data"]}, "both models"
    )
    assert "needed by mesh" in b.output
    assert hub.requests == []


def test_member_that_cannot_give_it_is_no_reason_not_to_have_it(
    made: MeshProcesses, tmp_path: Path, models_dir: Path, hub: FakeHub
) -> None:
    """Its file was taken away since it told of it: the hub is asked next."""
    entry = min(entries(), key=lambda one: one.size_bytes)
    hub.files[f"{entry.repo}/{entry.file}"] = (models_dir / "tiny.gguf").read_bytes()
    tiny = (models_dir / "tiny.gguf", "tiny")
    a_folder = folder_with(tmp_path, "a-models", tiny, (models_dir / "tiny.gguf", entry.stem))
    b_folder = folder_with(tmp_path, "b-models", (models_dir / "draft.gguf", "draft"))
    a = made.start("box-a", "--models-dir", a_folder, "--model", "tiny", until="ready")
    b = made.start(
        "box-b", "--models-dir", b_folder, "--model", "draft", join=made.token("box-a"),
        until="ready", HF_ENDPOINT=hub.url,
    )  # fmt: skip
    b.wait_for(
        lambda: any(entry.stem in peer["on_disk"] for peer in b.status()["peers"]), "its disk"
    )
    (Path(a_folder) / f"{entry.stem}.gguf").unlink()
    told = b.command("load", entry.name)
    assert told.returncode == 0, told.stderr
    assert f"{entry.stem} does not come from box-a" in b.output
    assert (Path(b_folder) / f"{entry.stem}.gguf").exists()
    assert [method for method, _, _ in hub.requests] != []
    assert a.status()["engine"]["starts"] == 1
