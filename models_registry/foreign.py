"""Decides what a file that is not GGUF looks like, so that a person sees the mistake at once. PURE."""

_MAGICS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "a git-lfs pointer, not the model itself: run `git lfs pull`, or download the file",
    ),
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint?): a model in GGUF format is needed"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"\xfd7zXZ", "an xz archive: unpack it first"),
    (b"(\xb5/\xfd", "a zstd archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7-zip archive: unpack it first"),
    (b"\x80\x02", "a Python pickle (a PyTorch checkpoint?): a model in GGUF format is needed"),
    (b"\x89HDF", "an HDF5 file: a model in GGUF format is needed"),
    (b"\x7fELF", "a program, not a model"),
    (b"lmgg", "a GGML file from before GGUF (2023): get the model in GGUF format"),
    (b"tjgg", "a GGJT file from before GGUF (2023): get the model in GGUF format"),
    (b"fmgg", "a GGMF file from before GGUF (2023): get the model in GGUF format"),
    (b"algg", "an old LoRA adapter of GGML: not a model by itself"),
)

_NEEDS_GGUF = "a model in GGUF format is needed"


def looks_like(head: bytes) -> str:
    """Return what a file is that begins with `head` (the first 4 KiB are enough), as a noun phrase."""
    if not head:
        return "empty (a download that never began?)"
    for magic, text in _MAGICS:
        if head.startswith(magic):
            return text
    if (
        len(head) > 9
        and head[8:10] in (b'{"', b"{ ")
        and int.from_bytes(head[:8], "little") < 2**32
    ):
        return f"a safetensors file: {_NEEDS_GGUF} (look for a repository whose name ends in -GGUF)"
    if not head.strip(b"\0"):
        return "all zeros at its beginning (room made for a download that never finished?)"
    return _text_kind(head)


def _text_kind(head: bytes) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:512]
    lower = start.lower()
    if lower.startswith((b"<!doctype html", b"<html", b"<head")):
        return (
            "a web page (HTML), most likely the error page of a failed download: download it again"
        )
    if lower.startswith(b"<?xml"):
        return "an XML document, most likely the error of a failed download: download it again"
    if lower.startswith((b"{", b"[")):
        return f"a JSON document (a configuration, or a failed download): {_NEEDS_GGUF}"
    line = start.split(b"\n", 1)[0][:80]
    if line and all(32 <= byte < 127 for byte in line):
        return f'a text that begins "{line.decode("ascii")}": {_NEEDS_GGUF}'
    return f"some other binary file: {_NEEDS_GGUF}"
