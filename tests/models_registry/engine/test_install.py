"""An install is all or nothing, one at a time, and every failure says what to try next."""

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from models_registry.engine import debian, install, source, steps
from models_registry.engine.faults import InstallFailed
from models_registry.engine.steps import Progress
from tests.models_registry.engine.conftest import REPO, fake_engine, write_script


def quiet(text: str, fraction: float | None) -> None:
    """Say nothing."""


def recipe_of(version: str) -> install.Recipe:
    def build(work: Path, into: Path, final: Path, progress: Progress) -> list[str]:
        fake_engine(into, version=version)
        return []

    return build


def failing(work: Path, into: Path, final: Path, progress: Progress) -> list[str]:
    into.mkdir()
    raise InstallFailed("the mirror is gone. Try --method source.")


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> "Use":
    return Use(monkeypatch)


class Use:
    """Stands in for the two ways of getting an engine."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch

    def __call__(
        self, *, deb: install.Recipe | str = failing, src: install.Recipe | str = failing
    ) -> None:
        for module, way in ((debian, deb), (source, src)):
            self.patch.setattr(
                module, "unavailable", lambda way=way: way if isinstance(way, str) else None
            )
            self.patch.setattr(module, "build", failing if isinstance(way, str) else way)


def contents(home: Path) -> set[str]:
    return {path.name for path in home.iterdir()}


def test_fresh_install_leaves_the_engine_and_no_rubbish(tmp_path: Path, use: Use) -> None:
    use(deb=recipe_of("0.7.0"))
    engine = install.install(tmp_path, quiet)
    assert engine.facts.version == "0.7.0"
    assert engine.facts.server_path == str(tmp_path / "engine" / "llama-server")
    assert contents(tmp_path) == {"engine", "run", install.LOCK_NAME}


def test_working_engine_stays_unless_forced(tmp_path: Path, use: Use) -> None:
    use(deb=recipe_of("0.7.0"))
    install.install(tmp_path, quiet)
    use(deb=recipe_of("0.8.0"))
    assert install.install(tmp_path, quiet).facts.version == "0.7.0"
    assert install.install(tmp_path, quiet, force=True).facts.version == "0.8.0"


def test_broken_engine_is_replaced_without_force(tmp_path: Path, use: Use) -> None:
    write_script(tmp_path / "engine" / "llama-server", "exit 1\n")
    use(deb=recipe_of("0.7.0"))
    assert install.install(tmp_path, quiet).facts.version == "0.7.0"


def test_failed_attempt_leaves_the_old_engine(tmp_path: Path, use: Use) -> None:
    use(deb=recipe_of("0.7.0"))
    install.install(tmp_path, quiet)
    use(deb=failing, src="there is no compiler")
    with pytest.raises(InstallFailed, match=r"the mirror is gone.*there is no compiler"):
        install.install(tmp_path, quiet, force=True)
    found = install.working(tmp_path)
    assert found is not None
    assert found.facts.version == "0.7.0"
    assert contents(tmp_path) == {"engine", "run", install.LOCK_NAME}


def test_engine_that_does_not_run_never_takes_the_place_of_one_that_does(
    tmp_path: Path, use: Use
) -> None:
    def broken(work: Path, into: Path, final: Path, progress: Progress) -> list[str]:
        fake_engine(into)
        write_script(into / "llama-server", "exit 9\n")
        return []

    use(deb=recipe_of("0.7.0"))
    install.install(tmp_path, quiet)
    use(deb=broken, src="no compiler")
    with pytest.raises(InstallFailed, match="does not run here"):
        install.install(tmp_path, quiet, force=True)
    assert install.working(tmp_path) is not None


def test_engine_that_runs_only_where_it_was_made_is_taken_back(tmp_path: Path, use: Use) -> None:
    def homesick(work: Path, into: Path, final: Path, progress: Progress) -> list[str]:
        server = fake_engine(into)
        server.write_text(
            server.read_text().replace("case", f'test "$0" = "{server}" || exit 4\ncase', 1)
        )
        return []

    use(deb=recipe_of("0.7.0"))
    install.install(tmp_path, quiet)
    use(deb=homesick, src="no compiler")
    with pytest.raises(InstallFailed, match="the old one is back"):
        install.install(tmp_path, quiet, force=True)
    assert install.working(tmp_path) is not None


def test_debian_s_failure_goes_on_to_the_build(tmp_path: Path, use: Use) -> None:
    said: list[str] = []
    use(deb=failing, src=recipe_of("0.6.0"))
    engine = install.install(tmp_path, lambda text, fraction: said.append(text))
    assert engine.facts.version == "0.6.0"
    assert any("building instead" in text for text in said)


def test_asked_for_debian_where_there_is_none_says_so(tmp_path: Path, use: Use) -> None:
    use(deb="this system is not Debian")
    with pytest.raises(InstallFailed, match=r"not Debian.*--method source"):
        install.install(tmp_path, quiet, method="debian")


def test_home_that_cannot_be_written_is_named(tmp_path: Path, use: Use) -> None:
    (tmp_path / "file").write_text("")
    use(deb=recipe_of("0.7.0"))
    with pytest.raises(InstallFailed, match=r"could not be put into .*MESH_LLM_HOME"):
        install.install(tmp_path / "file" / "home", quiet)


def test_full_disk_is_said_before_anything_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed, match=r"needs .* MB free"):
        steps.need_space(tmp_path, 1 << 60)


def test_damaged_package_is_refused(tmp_path: Path) -> None:
    deb = tmp_path / "llama.deb"
    deb.write_bytes(b"!<arch>\ndebian-binary   garbage")
    with pytest.raises(InstallFailed, match=r"Unpacking llama\.deb failed.*try again"):
        debian.unpack(tmp_path, [deb])


def test_damaged_source_archive_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "llama_cpp_python-1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(__file__, "x")
    with pytest.raises(InstallFailed, match=r"holds no llama.cpp"):
        source.unpack(archive, tmp_path / "a")
    archive.write_bytes(archive.read_bytes()[:40])
    with pytest.raises(InstallFailed, match="cannot be unpacked"):
        source.unpack(archive, tmp_path / "b")


def test_mirror_that_does_not_answer_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed, match=r"package list failed.*--method source"):
        debian.download(tmp_path, "http://127.0.0.1:9/debian", ["x"], quiet)


def test_gpu_package_that_cannot_be_had_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def download(work: Path, mirror: str, packages: list[str], progress: Progress) -> list[Path]:
        asked.append(packages)
        if "libggml0-backend-vulkan" in packages:
            raise InstallFailed("no such package")
        return [tmp_path]

    monkeypatch.setattr(debian, "download", download)
    assert debian._download_with(tmp_path, "m", ["libggml0-backend-vulkan"], quiet) == [tmp_path]
    assert asked[-1] == list(debian.PACKAGES)


def test_mirror_without_debian_s_signature_is_refused(tmp_path: Path) -> None:
    dist = tmp_path / "mirror" / "dists" / "sid"
    (dist / "main" / "binary-amd64").mkdir(parents=True)
    (dist / "main" / "binary-amd64" / "Packages").write_text("")
    (dist / "Release").write_text(
        "Origin: Debian\nSuite: unstable\nCodename: sid\nComponents: main\n"
    )
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(InstallFailed, match="not signed"):
        debian.download(work, f"file:{tmp_path / 'mirror'}", ["x"], quiet)


KILLED = """
import sys, time
from pathlib import Path
from models_registry.engine import debian, install
def slow(work, into, final, progress):
    into.mkdir()
    print("midway", flush=True)
    time.sleep(60)
debian.unavailable = lambda: None
debian.build = slow
install.install(Path(sys.argv[1]), lambda text, fraction: None, force=True)
"""


def test_killed_midway_leaves_the_old_one_and_the_next_attempt_clears_up(
    tmp_path: Path, use: Use
) -> None:
    use(deb=recipe_of("0.7.0"))
    install.install(tmp_path, quiet)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, cwd=REPO
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"midway\n"
        child.kill()
    found = install.working(tmp_path)
    assert found is not None
    assert any(name.startswith(install.NEW_PREFIX) for name in contents(tmp_path))
    use(deb=recipe_of("0.8.0"))
    assert install.install(tmp_path, quiet, force=True).facts.version == "0.8.0"
    assert contents(tmp_path) == {"engine", "run", install.LOCK_NAME}


def test_killed_between_the_two_renames_gets_the_old_one_back(tmp_path: Path, use: Use) -> None:
    use(deb=recipe_of("0.7.0"))
    install.install(tmp_path, quiet)
    (tmp_path / "engine").rename(tmp_path / install.OLD_NAME)
    use(deb=failing, src="no compiler")
    assert install.install(tmp_path, quiet).facts.version == "0.7.0"


def test_second_install_waits_for_the_first_and_takes_its_engine(tmp_path: Path, use: Use) -> None:
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, cwd=REPO
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()

        def progress(text: str, fraction: float | None) -> None:
            said.append(text)
            if "waiting" in text:
                fake_engine(tmp_path / "engine", version="0.7.5")
                child.kill()

        use(deb=recipe_of("0.8.0"))
        assert install.install(tmp_path, progress).facts.version == "0.7.5"
    assert any("waiting" in text for text in said)


def test_apt_s_hooks_and_default_release_do_not_reach_our_private_apt(tmp_path: Path) -> None:
    conf = debian._configure(tmp_path, "http://m.test/debian").read_text()
    assert "#clear APT::Default-Release;" in conf
    assert "#clear APT::Update::Post-Invoke;" in conf
    assert 'Acquire::AllowInsecureRepositories "false";' in conf


def command(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "manage.py", "engine", *words],
        cwd=REPO, env=os.environ | {"MESH_LLM_HOME": str(home)}, capture_output=True, text=True, timeout=110,
    )  # fmt: skip


@pytest.mark.engine
def test_real_install_from_debian_then_again_at_once(tmp_path: Path) -> None:
    first = command(tmp_path, "install", "--method", "debian")
    if (reason := debian.unavailable()) is not None:
        # Elsewhere the same command must refuse in one sentence.
        assert first.returncode == 1
        assert reason in first.stderr
        return
    assert first.returncode == 0, first.stderr
    assert "engine: trying it" in first.stderr
    assert {"llama.cpp-tools", "libggml0", "libc6"} <= contents(tmp_path / "engine" / "licences")
    began = time.monotonic()
    again = command(tmp_path, "install")
    assert "is in place" in again.stdout
    assert time.monotonic() - began < 5
    shown = command(tmp_path, "show")
    assert "found by    home" in shown.stdout
    assert "rpc-server" in shown.stdout


def test_show_without_an_engine_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    shown = command(tmp_path, "show", "--bin-dir", str(tmp_path))
    assert shown.returncode == 1
    assert "holds no llama-server" in shown.stderr
    assert "Traceback" not in shown.stderr
