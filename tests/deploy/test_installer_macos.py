"""What the installer does more on macOS: attributes cleared, then every program of the engine signed.

On another system this is shown by commands that say what they were asked.
"""

from pathlib import Path

import pytest

from tests.deploy.little_bundle import LittleBundle


@pytest.fixture
def mac(tmp_path: Path) -> LittleBundle:
    made = LittleBundle(
        tmp_path, system="Darwin", machine="arm64", runtime="macos", runtime_min="11.0"
    )
    made.stub("uname", "case $1 in -s) echo Darwin ;; *) echo arm64 ;; esac")
    made.stub("sw_vers", "echo 14.6.1")
    for name in ("codesign", "xattr"):
        made.stub(name, f'echo {name} "$@" >>{tmp_path}/asked')
    return made


def test_attributes_are_cleared_before_all_programs_and_libraries_are_signed(
    mac: LittleBundle,
) -> None:
    (mac.root / "engine" / "libllama.dylib").touch()
    mac.say("1.0", system="Darwin", machine="arm64", runtime="macos", runtime_min="11.0")
    mac.install()
    asked = (mac.machine / "asked").read_text().splitlines()
    assert asked[0] == f"xattr -cr {mac.current}"
    names = ["ggml-rpc-server", "libggml.so", "libllama.dylib", "llama-server"]
    assert asked[1:] == [f"codesign -f -s - {mac.current}/engine/{name}" for name in names]


@pytest.mark.parametrize("name", ["codesign", "xattr"])
def test_a_tool_that_is_missing_is_named_with_what_brings_it(mac: LittleBundle, name: str) -> None:
    (mac.stubs / name).unlink()
    said = mac.refusal()
    assert f"{name} is missing" in said
    assert "xcode-select --install" in said
    assert mac.versions == set()


def test_a_signature_that_fails_ends_the_install(mac: LittleBundle) -> None:
    mac.stub("codesign", 'echo "$4: bundle format unrecognized" >&2; exit 1')
    said = mac.refusal()
    assert "codesign could not sign" in said
    assert "bundle format unrecognized" in said
    assert mac.versions == set()


def test_an_older_macos_is_refused(mac: LittleBundle) -> None:
    mac.stub("sw_vers", "echo 10.15.7")
    assert "needs macos 11.0 or newer; this machine has 10.15.7" in mac.refusal()
