"""A model is fetched from a hub: whole, resumed, checked, and never visible half."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from models_registry import download
from models_registry.demo.synthesize import synthesize
from models_registry.download import fetch, split_spec
from models_registry.gguf_header import read_facts
from models_registry.hub_errors import DownloadFailed
from models_registry.progress import Progress, ignore
from models_registry.scan import scan
from nodes.mesh.model_facts import Capability
from tests.fakes.hub import FakeHub
from tests.models_registry.gguf_bytes import header, padded

REPO = "acme/Tiny-GGUF"


@pytest.fixture
def hub(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Return a hub with one whole model, and point huggingface_hub to it."""
    with FakeHub({f"{REPO}/Tiny-Q4_K_M.gguf": tiny_model.read_bytes()}) as running:
        for module in ("huggingface_hub.constants", "huggingface_hub.hf_api"):
            monkeypatch.setattr(f"{module}.ENDPOINT", running.url, raising=False)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            running.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_model_lands_under_its_stem_with_progress_to_the_last_byte(
    hub: FakeHub, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    path = fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, seen.append)
    assert path == tmp_path / "Tiny-Q4_K_M.gguf"
    assert path.read_bytes() == hub.files[f"{REPO}/Tiny-Q4_K_M.gguf"]
    assert read_facts(path).name == "Tiny-Q4_K_M"
    assert [seen[0].phase, seen[1].phase] == ["looking", "downloading"]
    assert (
        max(step.done_bytes for step in seen if step.phase == "downloading") == path.stat().st_size
    )
    assert {step.name for step in seen} == {"Tiny-Q4_K_M"}
    assert not (tmp_path / download.STAGING / "acme--Tiny-GGUF").exists()


def test_a_cut_transfer_is_resumed_at_once_from_where_it_stopped(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.cut_after_bytes, hub.cuts_left = 4 * download.CHUNK_BYTES, 1
    path = fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, ignore)
    assert path.read_bytes() == hub.files[f"{REPO}/Tiny-Q4_K_M.gguf"]
    assert hub.bytes_sent_from()[-1] == f"bytes={4 * download.CHUNK_BYTES}-"


def test_an_interrupted_download_shows_no_model_and_the_next_one_goes_on(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Exception):
        pass

    def stop_halfway(progress: Progress) -> None:
        if progress.done_bytes > 1_000_000:
            raise Stopped

    monkeypatch.setattr(download, "REPORT_INTERVAL_S", 0.0)
    with pytest.raises(Stopped):
        fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, stop_halfway)
    assert visible(tmp_path) == []
    assert scan(tmp_path).models == ()
    (part,) = (tmp_path / download.STAGING).rglob("*.part")
    kept = part.stat().st_size
    assert 500_000 < kept < 2_000_000
    path = fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, ignore)
    assert path.read_bytes() == hub.files[f"{REPO}/Tiny-Q4_K_M.gguf"]
    assert hub.bytes_sent_from()[-1] == f"bytes={kept}-"


def test_a_lost_connection_keeps_what_came_and_says_so(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after_bytes, hub.cuts_left = 0, 99
    with pytest.raises(
        DownloadFailed, match=r"cannot be reached.*try again; what was downloaded so far is kept"
    ):
        fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, ignore)
    assert visible(tmp_path) == []


def test_a_damaged_file_is_deleted_and_said(hub: FakeHub, tmp_path: Path) -> None:
    hub.damage = True
    with pytest.raises(DownloadFailed, match=r"Tiny-Q4_K_M\.gguf arrived damaged and was deleted"):
        fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, ignore)
    assert list(tmp_path.rglob("*.part")) == []


def test_a_sharded_set_comes_whole_and_its_projector_with_it(hub: FakeHub, tmp_path: Path) -> None:
    made = synthesize(tmp_path / "made" / "Wide-Q8_0.gguf", shards=3)
    for part in made.parent.iterdir():
        hub.files[f"acme/Wide-GGUF/Q8_0/{part.name}"] = part.read_bytes()
    projector = padded(header({"general.architecture": "clip", "general.type": "mmproj"}))
    hub.files["acme/Wide-GGUF/mmproj-model-f16.gguf"] = projector
    folder = tmp_path / "models"
    folder.mkdir()
    path = fetch("acme/Wide-GGUF", "Q8_0/Wide-Q8_0-00001-of-00003.gguf", folder, ignore)
    facts = read_facts(path)
    assert (facts.name, len(facts.shards)) == ("Wide-Q8_0", 3)
    assert facts.mmproj_path == str(folder / "mmproj-wide.gguf")
    assert facts.mmproj_bytes == len(projector)
    assert Capability.VISION in facts.capabilities


def test_a_file_that_is_there_is_not_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, ignore)
    before = len(hub.bytes_sent_from())
    fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, ignore)
    assert len(hub.bytes_sent_from()) == before


def test_too_little_disk_is_said_with_numbers_before_any_byte(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000_000))
    with pytest.raises(
        DownloadFailed, match=r"needs 0\.0 GB more on disk and .* has 0\.1 GB free: free 0\.4 GB"
    ):
        fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, ignore)
    assert hub.bytes_sent_from() == []


def test_a_wrong_file_name_lists_what_the_repository_has(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(
        DownloadFailed, match=r"has no file Tiny-Q9\.gguf\. It has: Tiny-Q4_K_M\.gguf"
    ):
        fetch(REPO, "Tiny-Q9.gguf", tmp_path, ignore)


def test_an_incomplete_set_on_the_hub_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    hub.files["acme/Half/x-00001-of-00002.gguf"] = b"GGUF"
    with pytest.raises(DownloadFailed, match=r"lacks x-00002-of-00002\.gguf"):
        fetch("acme/Half", "x-00001-of-00002.gguf", tmp_path, ignore)


def test_an_absent_repository_is_said(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(
        DownloadFailed, match=r"no repository acme/none on the hub, or it is private"
    ):
        fetch("acme/none", "x.gguf", tmp_path, ignore)


def test_a_gated_repository_names_the_token(hub: FakeHub, tmp_path: Path) -> None:
    hub.gated.add(REPO)
    with pytest.raises(DownloadFailed, match=r"is gated: accept its licence .* HF_TOKEN"):
        fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, ignore)


def test_the_token_goes_to_the_hub_and_not_to_the_storage_host(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated.add(REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, ignore)
    for _, path, headers in hub.requests:
        assert ("authorization" in headers) != path.startswith("/store/")


@pytest.mark.parametrize(
    ("status", "sentence"), [(403, "refuses .* HF_TOKEN"), (429, "slow down"), (500, "HTTP 500")]
)
def test_a_status_is_explained(hub: FakeHub, tmp_path: Path, status: int, sentence: str) -> None:
    hub.status = status
    with pytest.raises(DownloadFailed, match=sentence):
        fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, ignore)


def test_no_hub_at_all_is_said(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for server in hub._servers:
        server.shutdown()
        server.server_close()
    with pytest.raises(DownloadFailed, match=r"cannot be reached"):
        fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, ignore)


def test_a_folder_that_cannot_be_written_is_said(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / download.STAGING).write_text("in the way")
    with pytest.raises(DownloadFailed, match=r"cannot be written .* --models-dir"):
        fetch(REPO, "Tiny-Q4_K_M.gguf", tmp_path, ignore)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("org/repo/file.gguf", ("org/repo", "file.gguf")),
        ("org/repo/Q8/file-00001-of-00002.GGUF", ("org/repo", "Q8/file-00001-of-00002.GGUF")),
        ("org/file.gguf", None),
        ("org/repo/../../x.gguf", None),
        ("Qwen2.5-3B", None),
        ("org/repo/file.bin", None),
    ],
)
def test_a_spec_of_the_hub_is_told_from_others(spec: str, parts: tuple[str, str] | None) -> None:
    assert split_spec(spec) == parts
