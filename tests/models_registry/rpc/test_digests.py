"""Digests of tensors: right, computed once for a state of a file, kept, bounded, never believed blindly."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from models_registry.rpc import digests as digests_module
from models_registry.rpc.digests import Digests
from models_registry.rpc.protocol import TensorKey
from models_registry.rpc.weights import WeightFile, WeightFiles, WeightsFault, open_all
from tests.models_registry.rpc.model_file import ATensor, tensors, write_model

SIZES = (100_000, 4, 3 << 20)


def opened(path: Path) -> WeightFile:
    return WeightFile(path)


def key_of(tensor: ATensor) -> TensorKey:
    return TensorKey(tensor.name, 0, (tensor.shape[0], 1, 1, 1))


def test_every_tensors_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    made = tensors(*SIZES)
    file = opened(write_model(tmp_path / "m.gguf", made))
    digests = Digests(None)
    for tensor in made:
        (weight,) = WeightFiles([file]).find(
            key_of(tensor), len(tensor.data), frozenset({file.key})
        )
        assert digests.known(weight) is None
        assert digests.of(weight) == tensor.sha256
        assert digests.known(weight) == tensor.sha256
    whole = hashlib.sha256((tmp_path / "m.gguf").read_bytes()).digest()
    assert digests.of(file.whole()) == whole


def test_what_was_prepared_is_known_to_the_next_process_and_nothing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tensors(*SIZES)
    path = write_model(tmp_path / "m.gguf", made)
    Digests(tmp_path / "kept").prepare(opened(path), lambda: False)
    file = opened(path)
    monkeypatch.setattr(WeightFile, "read_into", None)
    for name, place in file.tensors.items():
        tensor = next(t for t in made if t.name == name)
        assert Digests(tmp_path / "kept").of(file.weight(place)) == tensor.sha256
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("change", ["mtime", "size", "inode"])
def test_another_state_of_the_file_has_no_digests(tmp_path: Path, change: str) -> None:
    made = tensors(*SIZES)
    path = write_model(tmp_path / "m.gguf", made)
    Digests(tmp_path / "kept").prepare(opened(path), lambda: False)
    facts = path.stat()
    if change == "mtime":
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    elif change == "size":
        with path.open("ab") as file:
            file.write(b"x")
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    else:
        path.rename(tmp_path / "old.gguf")
        write_model(path, made)
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    changed = opened(path)
    place = next(iter(changed.tensors.values()))
    assert Digests(tmp_path / "kept").known(changed.weight(place)) is None


@pytest.mark.parametrize("junk", [b"", b"\xff" * 100, b"\x92\x94\x01\x02\x03\x04\x81\x05\xc4\x01x"])
def test_a_damaged_table_is_no_table(tmp_path: Path, junk: bytes) -> None:
    path = write_model(tmp_path / "m.gguf", tensors(*SIZES))
    Digests(tmp_path / "kept").prepare(opened(path), lambda: False)
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_bytes(junk)
    file = opened(path)
    place = next(iter(file.tensors.values()))
    assert Digests(tmp_path / "kept").known(file.weight(place)) is None


def test_tables_are_bounded_in_memory_and_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests_module, "FILES_MAX", 3)
    digests = Digests(tmp_path / "kept")
    for number in range(6):
        path = write_model(tmp_path / f"{number}.gguf", tensors(64, seed=str(number)))
        digests.prepare(opened(path), lambda: False)
        for place, kept in enumerate(sorted((tmp_path / "kept").iterdir())):
            os.utime(kept, (place, place))
    assert len(digests._tables) <= 3
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_preparing_stops_when_it_is_told(tmp_path: Path) -> None:
    file = opened(write_model(tmp_path / "m.gguf", tensors(*[64] * 20)))
    digests, asked = Digests(None), iter([False] * 5 + [True] * 100)
    digests.prepare(file, lambda: next(asked))
    known = [p for p in file.tensors.values() if digests.known(file.weight(p))]
    assert len(known) == 5


def test_preparing_waits_while_a_load_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests_module, "LOAD_QUIET_S", 0.3)
    file = opened(write_model(tmp_path / "m.gguf", tensors(*[64] * 3)))
    digests = Digests(None)
    digests.note_load()
    began_s = time.monotonic()
    digests.prepare(file, lambda: False)
    assert time.monotonic() - began_s >= 0.29
    assert all(digests.known(file.weight(place)) for place in file.tensors.values())


def test_a_disk_that_takes_nothing_only_costs_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"a file where the folder should be")
    file = opened(write_model(tmp_path / "m.gguf", tensors(64)))
    digests = Digests(tmp_path / "kept")
    digests.prepare(file, lambda: False)
    assert digests.known(file.weight(next(iter(file.tensors.values()))))


def test_a_file_that_becomes_shorter_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", tensors(2 << 20))
    file = opened(path)
    os.truncate(path, 1 << 20)
    with pytest.raises(WeightsFault, match="became shorter"):
        Digests(None).of(file.weight(next(iter(file.tensors.values()))))
    assert not file.is_unchanged()


def test_files_that_are_no_models_are_named_and_left_out(tmp_path: Path) -> None:
    good = write_model(tmp_path / "good.gguf", tensors(64))
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"not a model")
    files, faults = open_all([good, bad, tmp_path / "missing.gguf"])
    assert [file.path for file in files.files] == [good]
    assert "bad.gguf is no model file" in faults[0]
    assert "missing.gguf cannot be read" in faults[1]


def test_the_same_file_has_the_same_key_anywhere_and_another_has_not(tmp_path: Path) -> None:
    made = tensors(*SIZES)
    one = opened(write_model(tmp_path / "a/m.gguf", made))
    two = opened(write_model(tmp_path / "b/other-name.gguf", made))
    assert one.key == two.key
    assert opened(write_model(tmp_path / "c.gguf", tensors(64))).key != one.key
