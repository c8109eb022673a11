"""Which Debian mirror this machine's own apt uses. Pure: reads apt's output and its sources' texts.

Our code names no mirror: the operator's choice (a company cache, a country's server) holds for us
too. Sources: apt-get(8) `indextargets`; sources.list(5), both formats.
"""

import re
from collections.abc import Iterable

TARGETS_FORMAT = "$(REPO_URI)\t$(ORIGIN)\t$(LABEL)"
"""What `apt-get indextargets --format` is asked for; its answer is read by `from_targets`."""
_ONE_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)$")
_USABLE = ("http://", "https://", "file:", "mirror+", "mirror:", "tor+", "ftp://", "copy:")


def from_targets(text: str) -> tuple[str, ...]:
    """Return the Debian archive's URIs in an `indextargets` answer, best first, each once."""
    found = []
    for line in text.splitlines():
        uri, origin, label = [*line.split("\t"), "", "", ""][:3]
        if origin == "Debian" and label == "Debian":
            found.append(uri)
    return _unique(found)


def from_one_line(text: str) -> tuple[str, ...]:
    """Return the archive's URIs in a ``sources.list``; third parties and security are left out."""
    found = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.partition("#")[0].strip())
        if match and _is_archive(match[2], match[3].split()):
            found.append(match[1])
    return _unique(found)


def from_deb822(text: str) -> tuple[str, ...]:
    """Return the archive's URIs in a ``.sources`` file; disabled entries are left out."""
    found: list[str] = []
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        if fields.get("enabled", "yes").casefold() in (
            "no",
            "false",
            "0",
            "off",
            "disable",
            "without",
        ):
            continue
        suites, components = fields.get("suites", "").split(), fields.get("components", "").split()
        if "deb" in fields.get("types", "").split() and any(
            _is_archive(suite, components) for suite in suites
        ):
            found += fields.get("uris", "").split()
    return _unique(found)


def _fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    last = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace() and last:
            fields[last] += " " + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            last = name.strip().casefold()
            fields[last] = value.strip()
    return fields


def _is_archive(suite: str, components: Iterable[str]) -> bool:
    """Return whether an entry looks like Debian's main archive: `main`, and no security suite.

    ``stable/`` and the like are flat third-party repositories. What slips through is refused later:
    only what Debian's archive key has signed is taken.
    """
    return "main" in components and "security" not in suite and not suite.endswith("/")


def _unique(uris: Iterable[str]) -> tuple[str, ...]:
    usable = (uri.rstrip("/") for uri in uris if uri.startswith(_USABLE) and "security" not in uri)
    return tuple(dict.fromkeys(usable))
