"""The engines' log: numbered, bounded, printable, without requests."""

import errno
import stat
from pathlib import Path

import pytest

from models_registry import log_ring
from models_registry.log_ring import EngineLogs, LogRing, OwnerOnlyFile, printable, without_request
from models_registry.supervision.engine_output import OutputScanner


def test_numbers_go_on_when_old_lines_are_gone() -> None:
    ring = LogRing(max_lines=3)
    assert [ring.append(text) for text in "abcde"] == [1, 2, 3, 4, 5]
    assert ring.tail(0, 10) == (3, ["c", "d", "e"])
    assert ring.tail(4, 10) == (5, ["e"])
    assert ring.tail(5, 10) == (6, [])
    assert ring.tail(99, 10) == (6, [])


def test_limit_keeps_the_newest() -> None:
    ring = LogRing()
    for text in "abcde":
        ring.append(text)
    assert ring.tail(0, 2) == (4, ["d", "e"])
    assert ring.tail(0, 0) == (6, [])


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain\r\n", "plain"),
        (b"\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("Größe ✓".encode(), "Größe ✓"),
        ("\u202eevil".encode(), "\\u202eevil"),
    ],
)
def test_hostile_bytes_become_printable(raw: bytes, shown: str) -> None:
    assert printable(raw) == shown


def test_what_a_request_held_is_left_out() -> None:
    line = 'got exception: {"error":{"code":400,"message":"parse error; last read: \'my secret\'"}}'
    kept = without_request("0.1 W srv operator(): " + line)
    assert "secret" not in kept and "400" in kept
    assert without_request("slot release: stop processing") == "slot release: stop processing"


def test_runs_of_a_model_share_a_log_and_models_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_ring, "MAX_MODELS", 2)
    logs = EngineLogs(tmp_path)
    logs.open("a").write([b"one"])
    logs.open("a").write([b"two"])
    assert logs.tail("a", 0, 10) == (1, ["one", "two"])
    logs.open("b")
    logs.open("a")
    logs.open("c")
    assert logs.models() == ["a", "c"]
    assert logs.tail("b", 0, 10) == (1, [])


def test_file_is_the_owners_bounded_and_stays_in_its_folder(tmp_path: Path) -> None:
    log = EngineLogs(tmp_path / "logs").open("../../etc/pass wd")
    log.write([b"x"])
    (path,) = (tmp_path / "logs").iterdir()
    assert path.read_text() == "x\n" and stat.S_IMODE(path.stat().st_mode) == 0o600
    file = OwnerOnlyFile(tmp_path / "r.log", max_bytes=1000, backups=2)
    for _ in range(200):
        file.write(["y" * 99])
    file.close()
    assert sum(part.stat().st_size for part in tmp_path.glob("r.log*")) <= 3000
    assert len(list(tmp_path.glob("r.log*"))) == 3


def test_file_that_cannot_be_written_loses_nothing_in_memory(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("not a folder")
    logs = EngineLogs(tmp_path / "logs")
    logs.open("a").write([b"kept"])
    assert logs.tail("a", 0, 1) == (1, ["kept"])


def test_file_on_a_full_disk_closes_without_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = OwnerOnlyFile(tmp_path / "a.log")
    file.write(["before"])
    assert file.stream is not None

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file.stream, "flush", full)
    file.write(["lost"])
    file.close()


def test_chunks_become_lines_and_an_endless_line_is_bounded() -> None:
    scanner = OutputScanner()
    assert scanner.feed(b"one\ntw") == [b"one"]
    assert scanner.feed(b"o\n\nthree") == [b"two"]
    for _ in range(100):
        assert scanner.feed(b"x" * 10_000) == []
    assert len(scanner.feed(b"\n")[0]) == log_ring.MAX_LINE_BYTES + 1
    assert scanner.finish() == []


def test_dots_are_loading_progress() -> None:
    scanner = OutputScanner()
    assert OutputScanner().fraction is None
    scanner.feed(b"load_tensors: loading...\n..........")
    assert scanner.fraction == 0.1
    seen = []
    for chunk in (b"." * 40, b"." * 50 + b"\nready\n...\n"):
        scanner.feed(chunk)
        seen.append(scanner.fraction)
    assert seen == [0.5, 1.0]
