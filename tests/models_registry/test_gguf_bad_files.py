"""A file that no engine should be started with is refused, with a reason that a person understands."""

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models_registry import gguf_parse
from models_registry.foreign import looks_like
from models_registry.gguf_header import BadModelFile, read_facts
from tests.models_registry.gguf_bytes import header, llama, padded, text, write


def reason(path: Path) -> str:
    with pytest.raises(BadModelFile) as caught:
        read_facts(path)
    assert path.name in str(caught.value)
    return caught.value.reason


def test_a_good_hand_made_file_is_taken(tmp_path: Path) -> None:
    facts = read_facts(write(tmp_path / "good.gguf", padded(header(llama()))))
    assert (facts.title, facts.layers, facts.vocab_size, facts.quantisation) == (
        "Hand made",
        2,
        2,
        "F32",
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body>", "web page (HTML)"),
        (b"\n <html>404", "web page (HTML)"),
        (b"<?xml version='1.0'?><Error>AccessDenied", "XML document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git-lfs pointer"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"\x1f\x8b\x08\x00rest", "gzip archive"),
        (struct.pack("<Q", 64) + b'{"__metadata__":{}}', "safetensors"),
        (b'{"error": "not found"}', "JSON document"),
        (b"Entry not found", 'a text that begins "Entry not found"'),
        (b"\0" * 8192, "all zeros"),
        (b"tjgg" + bytes(64), "before GGUF"),
        (b"\x80\x02}q\x00", "Python pickle"),
        (bytes(range(200, 256)) * 9, "some other binary file"),
    ],
)
def test_a_foreign_file_is_called_by_its_name(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in reason(write(tmp_path / "model.gguf", content))


def test_every_cut_of_a_file_is_noticed(tmp_path: Path) -> None:
    whole = padded(header(llama()))
    for length in range(4, len(whole), 7):
        assert "cut off" in reason(write(tmp_path / "cut.gguf", whole[:length])), length


def test_a_cut_in_the_tensors_is_told_with_both_sizes(tmp_path: Path, tiny_model: Path) -> None:
    whole = tiny_model.read_bytes()
    told = reason(write(tmp_path / "cut.gguf", whole[:-1000]))
    assert f"its header needs {len(whole):,} bytes and the file has {len(whole) - 1000:,}" in told


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (1, "version 1 (2023)"),
        (4, "GGUF version 4"),
        (0x03000000, "big-endian"),
        (0, "GGUF version 0"),
    ],
)
def test_an_unknown_version_is_refused(tmp_path: Path, version: int, words: str) -> None:
    assert words in reason(write(tmp_path / "v.gguf", padded(header(llama(), version=version))))


def test_version_2_is_read(tmp_path: Path) -> None:
    assert read_facts(write(tmp_path / "v2.gguf", padded(header(llama(), version=2)))).layers == 2


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"general.architecture": "clip"}, "vision projector"),
        ({"general.architecture": "llama", "general.type": "mmproj"}, "vision projector"),
        ({"general.architecture": "llama", "general.type": "adapter"}, "LoRA adapter"),
        ({"general.architecture": "llama", "general.type": "imatrix"}, "importance matrix"),
        ({"general.name": "no architecture"}, "names no architecture"),
    ],
)
def test_a_gguf_that_is_no_model_is_refused(
    tmp_path: Path, keys: dict[str, object], words: str
) -> None:
    assert words in reason(write(tmp_path / "other.gguf", padded(header(keys))))


def test_a_vocabulary_without_weights_is_refused(tmp_path: Path) -> None:
    assert "vocabulary only" in reason(write(tmp_path / "vocab.gguf", header(llama(), tensors=())))


HUGE = 2**63


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (header(llama(), tensor_count=HUGE), "claims 9,223,372,036,854,775,808 tensors"),
        (header(llama(), key_count=HUGE), "claims 9,223,372,036,854,775,808 keys"),
        (header({}, (), key_count=1) + struct.pack("<Q", HUGE), "a key's name claims to be"),
        (header({}, (), key_count=1) + text("k") + struct.pack("<I", 99), "unknown type 99"),
        (header({}, (), key_count=1) + text("k") + struct.pack("<IIQ", 9, 9, 3), "list of lists"),
        (header({}, (), key_count=1) + text("k") + struct.pack("<IIQ", 9, 8, HUGE), "texts"),
        (header({}, (), key_count=1) + text("k") + struct.pack("<IIQ", 9, 4, HUGE), "cut off"),
        (header({}, (), key_count=1) + text("k") + struct.pack("<IQ", 8, HUGE), "cut off"),
        (header({}, (), tensor_count=1) + text("t") + struct.pack("<I", 2**31), "dimensions"),
        (header(llama(), (("t", (2**62, 2**62), 0, 0),)), "cut off"),
        (header(llama(), (("t", (32,), 0, 2**62),)), "cut off"),
        (header(llama(), (("t", (32,), 0, 0), ("t", (32,), 0, 0))), "tensor 't' twice"),
        (header(llama(general__alignment=3)), "power of two"),
        (header(llama(general__alignment=0)), "power of two"),
    ],
)
def test_hostile_counts_and_lengths_are_refused_at_once(
    tmp_path: Path, raw: bytes, words: str
) -> None:
    assert words in reason(write(tmp_path / "hostile.gguf", padded(raw)))


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    twice = header({"a": 1}, (), key_count=2) + text("a") + struct.pack("<II", 4, 2)
    assert "the key 'a' twice" in reason(write(tmp_path / "twice.gguf", padded(twice)))


def test_a_header_without_end_stops_at_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_parse, "HEADER_BYTES_MAX", 4 * 1024 * 1024)
    path = tmp_path / "endless.gguf"
    path.write_bytes(header({}, (), key_count=1) + text("k") + struct.pack("<IQ", 8, 2**33))
    os.truncate(path, 2**34)  # sparse: 16 GB that take no room
    assert "its header is over 4 MiB" in reason(path)


def test_missing_folder_and_special_files_are_told(tmp_path: Path) -> None:
    assert "no such file" in reason(tmp_path / "none.gguf")
    (tmp_path / "folder.gguf").mkdir()
    assert "is a folder" in reason(tmp_path / "folder.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    assert "not a regular file" in reason(tmp_path / "pipe.gguf")


def test_a_title_is_made_fit_for_one_line(tmp_path: Path) -> None:
    hostile = "A\x1b[31m\n<script>\u202e" + "x" * 5000
    facts = read_facts(write(tmp_path / "t.gguf", padded(header(llama(general__name=hostile)))))
    assert "\x1b" not in facts.title
    assert "\n" not in facts.title
    assert "\u202e" not in facts.title
    assert len(facts.title) <= 120


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 300), st.booleans())
def test_random_bytes_are_facts_or_a_bad_model_file_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, as_gguf: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.gguf"
    good = padded(header(llama()))
    raw = good[:at] + noise + good[at + len(noise) :] if as_gguf else noise
    path.write_bytes(raw)
    try:
        assert read_facts(path).size_bytes == len(raw)
    except BadModelFile as bad:
        assert bad.reason


@given(st.binary(max_size=64))
def test_any_beginning_looks_like_something(head: bytes) -> None:
    assert looks_like(head)
