"""Checks a bundle's files against SHA256SUMS: `python verify.py FOLDER`; run by install.sh.

Prints the first 8 hex digits of the list's own SHA-256, which name this bundle's content. Ends with 1
and one line on standard error when a file is missing, damaged or not of the bundle. Only the standard
library: nothing of the bundle may be used before it is checked.
"""

import hashlib
import re
import sys
from pathlib import Path

SHOWN_MAX = 3
"""Names that an error gives; the rest is counted."""
ID_DIGITS = 8
LINE = re.compile(r"([0-9a-f]{64})  ([^\s/][^\n]*)")
NOT_OURS = (".DS_Store", "SHA256SUMS")
"""What a file browser leaves behind, and the list itself."""


def main() -> int:
    root = Path(sys.argv[1])
    listed = (root / "SHA256SUMS").read_bytes()
    sums = {}
    for line in listed.decode("utf-8", "replace").splitlines():
        found = LINE.fullmatch(line)
        if found is None or ".." in Path(found[2]).parts:
            return fault("SHA256SUMS is damaged")
        sums[found[2]] = found[1]
    if not sums:
        return fault("SHA256SUMS is empty")
    missing = [name for name in sums if not (root / name).is_file()]
    if missing:
        return fault(f"it is only half unpacked: {names(missing)} missing")
    damaged = [name for name, wanted in sums.items() if digest(root / name) != wanted]
    if damaged:
        return fault(f"{names(damaged)} damaged: not the bytes that were packed")
    strange = sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if is_strange(path, root, sums)
    )
    if strange:
        return fault(f"{names(strange)} not of this bundle")
    sys.stdout.write(hashlib.sha256(listed).hexdigest()[:ID_DIGITS] + "\n")
    return 0


def is_strange(path: Path, root: Path, sums: "dict[str, str]") -> bool:
    ours = path.relative_to(root).as_posix() in sums or path.name in NOT_OURS
    return path.is_file() and not ours and not path.name.startswith("._")


def digest(path: Path) -> str:
    made = hashlib.sha256()
    with path.open("rb") as content:
        for block in iter(lambda: content.read(1 << 20), b""):
            made.update(block)
    return made.hexdigest()


def names(found: "list[str]") -> str:
    more = len(found) - SHOWN_MAX
    text = ", ".join(found[:SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
    return f"{text} {'is' if len(found) == 1 else 'are'}"


def fault(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
