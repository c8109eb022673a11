"""A node's key: made once, kept private, refused when it cannot be trusted, never overwritten."""

import concurrent.futures
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from nodes.runtime import identity, mesh_key
from nodes.runtime.identity import IdentityError, verify
from nodes.runtime.mesh_key import MeshKeyError


def test_the_same_home_gives_the_same_identity(tmp_path: Path) -> None:
    first = identity.load_or_create(tmp_path)
    assert identity.load_or_create(tmp_path).node_id == first.node_id
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_the_id_is_the_hash_of_the_public_keys_spki() -> None:
    who = identity.ephemeral()
    spki = who.private_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert who.node_id == hashlib.sha256(spki).hexdigest()
    assert identity.node_id_of(who.public_key) == who.node_id


def test_a_new_home_is_private(tmp_path: Path) -> None:
    identity.load_or_create(tmp_path / "a" / "home")
    assert (tmp_path / "a" / "home").stat().st_mode & 0o777 == 0o700


def test_many_starts_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: identity.load_or_create(tmp_path).node_id, range(32)))
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n", b"\0" * 64]
)
def test_a_broken_key_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="does not hold a usable key"):
        identity.load_or_create(tmp_path)
    assert path.read_bytes() == content


def test_a_key_that_others_may_read_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    identity.load_or_create(tmp_path)
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(IdentityError, match=r"mode 644\): run `chmod 600"):
        identity.load_or_create(tmp_path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    path = tmp_path / "key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="another kind than Ed25519"):
        identity.load_or_create(tmp_path)


def test_a_folder_in_place_of_the_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(IdentityError, match="cannot be read"):
        identity.load_or_create(tmp_path)


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError, match="MESH_LLM_HOME"):
        identity.load_or_create(tmp_path / "file" / "home")


def test_signatures_verify_and_changed_ones_do_not() -> None:
    who, other = identity.ephemeral(), identity.ephemeral()
    signature = who.sign(b"content")
    assert verify(who.public_key, signature, b"content")
    assert not verify(who.public_key, signature, b"changed")
    assert not verify(other.public_key, signature, b"content")
    assert not verify(who.public_key, signature[:-1], b"content")
    assert not verify(b"short", signature, b"content")


def test_nothing_secret_is_shown() -> None:
    who, key = identity.ephemeral(), mesh_key.new_mesh()
    assert who.node_id[:16] in repr(who)
    assert len(repr(who)) < 40
    assert key.seed.hex() not in repr(key)


def test_the_mesh_key_is_kept_and_names_its_mesh(tmp_path: Path) -> None:
    key = mesh_key.load_or_create(tmp_path)
    again = mesh_key.load_or_create(tmp_path)
    assert (again.mesh_id, again.epoch, again.seed) == (key.mesh_id, 1, key.seed)
    assert key.mesh_id == mesh_key.fingerprint(key.public_key)
    assert (tmp_path / "mesh_key").stat().st_mode & 0o777 == 0o600
    assert mesh_key.load(tmp_path / "elsewhere") is None


def test_a_rotated_key_belongs_to_the_same_mesh_and_replaces_the_old_one(tmp_path: Path) -> None:
    key = mesh_key.load_or_create(tmp_path)
    new = key.rotated()
    assert (new.mesh_id, new.epoch) == (key.mesh_id, 2)
    assert new.public_key != key.public_key
    mesh_key.save(tmp_path, new)
    assert mesh_key.load_or_create(tmp_path).seed == new.seed


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"mesh_id":"aa","epoch":1,"seed":"AAAA"}', b"\xff"]
)
def test_a_broken_mesh_key_is_refused_and_left(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mesh_key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(MeshKeyError, match="does not hold a usable mesh key"):
        mesh_key.load_or_create(tmp_path)
    assert path.read_bytes() == content


def test_a_first_key_under_another_meshs_name_is_refused() -> None:
    one, two = mesh_key.new_mesh(), mesh_key.new_mesh()
    with pytest.raises(MeshKeyError):
        mesh_key.from_seed(one.mesh_id, 1, two.seed)
