"""What is in a bundle, that it is the same each time, and that a failed one leaves nothing."""

import hashlib
import shutil
import tarfile
from pathlib import Path

import pytest

from deploy import archive, bundle, target, wheels
from deploy.engine_files import EngineFiles, of_home
from deploy.faults import BundleFailed
from models_registry.demo import demo_path
from tests.conftest import REPO
from tests.deploy.little_bundle import make_wheel


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project's own rooms, with assets that look collected."""
    repo = tmp_path / "checkout"
    for room in bundle.ROOMS:
        if room != "staticfiles":
            shutil.copytree(REPO / room, repo / room)
    (repo / "staticfiles").mkdir()
    (repo / "staticfiles" / "staticfiles.json").write_text("{}")
    for name in bundle.LOOSE:
        shutil.copy(REPO / name, repo / name)
    return repo


@pytest.fixture
def engine(tmp_path: Path) -> EngineFiles:
    folder = tmp_path / "engine-of-the-home"
    (folder / "licences").mkdir(parents=True)
    (folder / "llama-server").write_text("#!/bin/sh\n")
    (folder / "llama-server").chmod(0o755)
    (folder / "licences" / "libllama0").write_text("MIT")
    return EngineFiles(folder, "0.7.0", ("llama-server",), "")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path, tag="cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64")


@pytest.fixture
def laid_out(tmp_path: Path, checkout: Path, engine: EngineFiles, wheel: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    return bundle.lay_out(work, checkout, [wheel], engine)


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_it_holds_code_assets_model_engine_wheels_pip_and_installer(laid_out: Path) -> None:
    found = names(laid_out)
    assert {
        "install.sh", "verify.py", "BUNDLE", "SHA256SUMS", "README.txt", "LICENSE",
        "app/meshsite/cli.py", "app/nodes/mesh/node.py", "app/models_registry/catalogue.toml",
        "app/templates/console/page.html", "app/staticfiles/staticfiles.json",
        "app/proxy/asgi.py", "engine/llama-server", "engine/licences/libllama0",
        "wheels/requirements.txt", "pip/pip/__main__.py",
    } <= found  # fmt: skip
    model = laid_out / "app" / demo_path().relative_to(REPO)
    assert model.read_bytes() == demo_path().read_bytes()


def test_it_holds_nothing_compiled_hidden_or_of_the_tests(laid_out: Path) -> None:
    for name in names(laid_out):
        assert "__pycache__" not in name
        assert not any(part.startswith(".") for part in name.split("/"))
    assert {path.name for path in (laid_out / "app").iterdir()} == {*bundle.ROOMS, *bundle.LOOSE}


def test_every_file_but_the_list_itself_has_its_sum(laid_out: Path) -> None:
    sums = {}
    for line in (laid_out / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ", 1)
        sums[name] = digest
    assert set(sums) == names(laid_out) - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((laid_out / name).read_bytes()).hexdigest() == digest


def test_it_says_which_machines_it_is_for(laid_out: Path) -> None:
    facts = dict(line.split("=", 1) for line in (laid_out / "BUNDLE").read_text().splitlines())
    assert facts["python"] == target.python_here()
    assert facts["engine_programs"] == "llama-server"
    # The engine brings no C library of its own, so it needs this machine's, newer than the wheel's.
    assert facts["runtime_min"] == target.dotted(target.runtime_here()[1])
    assert laid_out.name.endswith(f"{facts['machine']}-py{facts['python'].replace('.', '')}")


def test_the_packed_bytes_depend_on_the_content_alone(laid_out: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.tar.gz", tmp_path / "2.tar.gz"
    archive.pack(laid_out, first)
    other = tmp_path / "elsewhere" / laid_out.name
    shutil.copytree(laid_out, other, copy_function=shutil.copyfile)  # other times and owners
    for path in laid_out.rglob("*"):
        if path.is_file() and path.stat().st_mode & 0o100:
            (other / path.relative_to(laid_out)).chmod(0o700)
    archive.pack(other, second)
    assert first.read_bytes() == second.read_bytes()


def test_it_unpacks_into_one_folder_with_programs_that_may_run(
    laid_out: Path, tmp_path: Path
) -> None:
    archive.pack(laid_out, tmp_path / "made.tar.gz")
    with tarfile.open(tmp_path / "made.tar.gz") as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert {name.split("/")[0] for name in members} == {laid_out.name}
    assert members[f"{laid_out.name}/install.sh"].mode == 0o755
    assert members[f"{laid_out.name}/engine/llama-server"].mode == 0o755
    assert members[f"{laid_out.name}/BUNDLE"].mode == 0o644


def test_assets_that_were_not_collected_are_a_fault(
    tmp_path: Path, checkout: Path, engine: EngineFiles, wheel: Path
) -> None:
    shutil.rmtree(checkout / "staticfiles")
    with pytest.raises(BundleFailed, match=r"staticfiles/ is missing .* `make setup`"):
        bundle.lay_out(tmp_path, checkout, [wheel], engine)


def test_a_home_without_an_engine_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(BundleFailed, match=r"no engine in .* `mesh-llm engine install`"):
        of_home(tmp_path)


@pytest.mark.engine
def test_the_real_engine_is_taken_with_its_loader(engine_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "engine").symlink_to(engine_dir)
    found = of_home(tmp_path)
    assert {"llama-server", "ggml-rpc-server"} <= set(found.programs)
    assert found.version
    assert (found.loader != "") == bool(list(engine_dir.glob("ld-linux*")))


@pytest.mark.engine
def test_a_wheel_that_does_not_come_leaves_nothing(
    engine_dir: Path, tmp_path: Path, wheel: Path
) -> None:
    (tmp_path / "engine").symlink_to(engine_dir)
    out = tmp_path / "out"
    stale = out / ".bundle-of-a-killed-run"
    stale.mkdir(parents=True)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"little_wheel @ {wheel.as_uri()} --hash=sha256:{'0' * 64}\n")
    with pytest.raises(BundleFailed, match="pip could not bring the wheels"):
        bundle.make(out, tmp_path, requirements)
    assert list(out.iterdir()) == []


def test_too_much_for_a_bundle_is_a_fault(laid_out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "FILES_MAX", 10)
    with pytest.raises(BundleFailed, match="more than the 10 files"):
        archive.files_of(laid_out)


@pytest.mark.parametrize(
    ("wheel_names", "least"),
    [
        (["a-1-py3-none-any.whl"], ()),
        (["a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"], (2, 17)),
        (["a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl"], (2, 17)),
        (["a-1-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.musllinux_1_1_x86_64.whl"], (2, 5)),
        (["a-1-cp311-abi3-manylinux_2_34_x86_64.whl", "b-1-py3-none-any.whl"], (2, 34)),
        (["a-1-cp311-cp311-macosx_11_0_arm64.whl", "b-1-cp311-cp311-macosx_10_9_universal2.whl"], (11, 0)),
        (["a-1-cp311-cp311-linux_x86_64.whl"], (2, 99)),
    ],
)  # fmt: skip
def test_the_least_c_library_is_what_every_wheel_is_content_with(
    wheel_names: list[str], least: tuple[int, ...]
) -> None:
    assert target.runtime_min(wheel_names, (2, 99)) == least


def test_a_bundle_says_nothing_that_a_shell_could_run() -> None:
    about = target.Target("$(id)", "Linux", "x86_64", "glibc", "2.1", "3.11", "1", "", "", 1)
    with pytest.raises(BundleFailed, match="version"):
        about.text()


def test_the_wheels_are_pinned_by_their_own_sums(wheel: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert wheels.pin([wheel]) == f"little-wheel==1.0 --hash=sha256:{digest}\n"
