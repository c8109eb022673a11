"""The machine's own mirror, out of apt's answer and out of both formats of its sources."""

from pathlib import Path

from models_registry.engine.apt_mirror import from_deb822, from_one_line, from_targets
from models_registry.engine.debian import mirrors_in, total_bytes


def test_apt_s_answer_gives_the_archive_not_security_nor_third_parties() -> None:
    text = (
        "http://m.test/debian-security/\tDebian\tDebian-Security\n"
        "http://m.test/debian/\tDebian\tDebian\n"
        "http://other.test/apt/\tOther\tOther\n"
        "http://m.test/debian/\tDebian\tDebian\n"
    )
    assert from_targets(text) == ("http://m.test/debian",)
    assert from_targets("") == ()


def test_one_line_sources() -> None:
    text = (
        "# deb http://old.test/debian bookworm main\n"
        "deb [signed-by=/k.gpg arch=amd64] http://m.test/debian/ bookworm main contrib # ours\n"
        "deb-src http://src.test/debian bookworm main\n"
        "deb http://m.test/debian-security bookworm-security main\n"
        "deb cdrom:[Debian]/ bookworm main\n"
        "deb https://flat.test/apt stable/\n"
        "deb https://third.test/repo nodistro other\n"
    )
    assert from_one_line(text) == ("http://m.test/debian",)


def test_deb822_sources_with_a_disabled_stanza_and_several_uris() -> None:
    text = (
        "Types: deb\nURIs: http://off.test/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n\n"
        "Types: deb deb-src\n# a comment\nURIs: http://a.test/debian\n  http://b.test/debian\n"
        "Suites: bookworm bookworm-updates\nComponents: main\n\n"
        "Types: deb\nURIs: http://a.test/debian-security\nSuites: bookworm-security\nComponents: main\n\n"
        "Types: deb-src\nURIs: http://s.test/debian\nSuites: bookworm\nComponents: main\n"
    )
    assert from_deb822(text) == ("http://a.test/debian", "http://b.test/debian")


def test_mirror_lists_of_cloud_images_are_passed_on() -> None:
    text = "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: trixie\nComponents: main\n"
    assert from_deb822(text) == ("mirror+file:///etc/apt/mirrors/debian.list",)


def test_system_whose_apt_never_fetched_anything_is_read_from_its_files(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://one.test/debian bookworm main\n")
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "debian.sources").write_text(
        "Types: deb\nURIs: http://two.test/debian\nSuites: bookworm\nComponents: main\n"
    )
    (parts / "x.list.disabled").write_text("deb http://three.test/debian bookworm main\n")
    assert mirrors_in(tmp_path) == ("http://one.test/debian", "http://two.test/debian")
    assert mirrors_in(tmp_path / "nothing") == ()


def test_download_size_is_the_sum_of_apt_s_rows() -> None:
    assert (
        total_bytes(
            "'http://m/a.deb' a.deb 100 SHA256:x\nnoise\n'http://m/b.deb' b.deb 23 SHA256:y\n"
        )
        == 123
    )
