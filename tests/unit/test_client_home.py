"""The home: private files, made whole or not at all; the vault: keys that show themselves to nobody."""

import copy
import os
import pickle
import shutil
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from client import durable_files, home
from client.home import ClientHome
from client.inspection import diagnose
from client.policy_file import render_policy
from client.vault import Vault
from shared.errors import BadSetting, CatalogueMismatch, MalformedFile
from shared.node_key import require_node_key
from tests.unit.client_homes import CATALOGUE, make_catalogue, make_home, make_policy

NOW = 1_800_000_000


def test_a_home_opens_as_it_was_made(tmp_path: Path) -> None:
    made = make_home(tmp_path)
    opened = ClientHome.open(made.folder)
    assert opened.name == "north"
    assert opened.policy == made.policy
    assert opened.catalogue.digest == CATALOGUE.digest
    assert opened.vault.signing_public == made.vault.signing_public
    assert opened.ledger.entries() == ()


def test_everything_in_a_home_is_for_its_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made = make_home(tmp_path)
    finally:
        os.umask(old)
    for path in (made.folder, *made.folder.rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_home_is_not_made_over_anything(tmp_path: Path) -> None:
    made = make_home(tmp_path)
    with pytest.raises(BadSetting, match="not empty"):
        make_home(tmp_path)
    assert ClientHome.open(made.folder).vault.signing_public == made.vault.signing_public


def test_a_home_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(home.Vault, "create", fail)
    with pytest.raises(OSError, match="disk full"):
        make_home(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_home_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="zhiyin client init"):
        ClientHome.open(tmp_path)


@pytest.mark.parametrize(
    "lost", ["store.db", "ledger.db", "ledger.marks", "catalogue.bin", "keys/sign.key", "keys/node.key"]
)
def test_a_lost_file_is_named_and_never_made_anew(tmp_path: Path, lost: str) -> None:
    made = make_home(tmp_path)
    (made.folder / lost).unlink()
    with pytest.raises((BadSetting, MalformedFile), match=Path(lost).name):
        ClientHome.open(made.folder)
    assert not (made.folder / lost).exists()


def test_a_store_and_a_catalogue_of_different_digests_do_not_open(tmp_path: Path) -> None:
    made = make_home(tmp_path)
    (made.folder / "catalogue.bin").write_bytes(make_catalogue(version=2).to_bytes())
    with pytest.raises(CatalogueMismatch, match=r"store\.db"):
        ClientHome.open(made.folder)
    ClientHome.adopt_catalogue(made.folder, make_catalogue(version=2))
    assert ClientHome.open(made.folder).catalogue.version == 2


def test_a_crash_in_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    durable_files.write_file(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(durable_files.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        durable_files.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["sign.key", "seal-0001.key", "node.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused_with_the_mend(tmp_path: Path, name: str, mode: int) -> None:
    vault = Vault.create(tmp_path / "keys")
    (vault.folder / name).chmod(mode)
    with pytest.raises(BadSetting, match=f"{name}: mode {mode:04o}.*chmod 600"):
        Vault.open(vault.folder)


@pytest.mark.parametrize("name", ["sign.key", "seal-0001.key", "node.key"])
def test_a_damaged_key_is_refused_without_showing_it(tmp_path: Path, name: str) -> None:
    vault = Vault.create(tmp_path / "keys")
    secret = (vault.folder / name).read_bytes()
    (vault.folder / name).write_bytes(secret[:60] + b"\n" + secret[90:])
    with pytest.raises(BadSetting, match=name) as caught:
        Vault.open(vault.folder)
    assert secret[30:50].decode() not in f"{caught.value}{caught.value.__cause__}"
    assert caught.value.__suppress_context__


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "keys")
    (vault.folder / "sign.key").write_bytes((vault.folder / "seal-0001.key").read_bytes())
    with pytest.raises(BadSetting, match="Ed25519"):
        Vault.open(vault.folder)


def test_keys_are_never_replaced(tmp_path: Path) -> None:
    Vault.create(tmp_path / "keys")
    with pytest.raises(BadSetting, match="holds keys already"):
        Vault.create(tmp_path / "keys")


def test_a_vault_shows_no_key_and_cannot_be_pickled_or_copied(tmp_path: Path) -> None:
    made = make_home(tmp_path)
    secrets = [made.vault.signing_key.private_bytes_raw(), made.vault.sealing_keys[1].private_bytes_raw()]
    for shown in (repr(made.vault), str(made.vault), repr(made), str(vars(made.vault))):
        assert not any(secret.hex() in shown or repr(secret)[2:-1] in shown for secret in secrets)
    for attempt in (lambda: pickle.dumps(made.vault), lambda: pickle.dumps(made), lambda: copy.deepcopy(made.vault)):
        with pytest.raises(TypeError, match="never pickled"):
            attempt()


def test_the_node_key_is_what_flower_reads(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "keys")
    private = load_ssh_private_key(vault.node_key_path.read_bytes(), None)
    public = load_ssh_public_key(vault.node_public_path.read_bytes())
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert isinstance(private.curve, ec.SECP384R1)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert private.public_key().public_numbers() == public.public_numbers()


def test_the_node_key_is_written_in_its_one_form(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "keys")
    assert require_node_key(vault.node_public) == vault.node_public
    assert vault.node_public_path.read_text() == vault.node_public + "\n"


def test_a_node_key_on_another_curve_is_not_shown_or_sent(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "keys")
    other = ec.generate_private_key(ec.SECP256R1())
    vault.node_key_path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    with pytest.raises(BadSetting, match=r"node\.key: a node key must be a P-384 key"):
        _ = Vault.open(tmp_path / "keys").node_public


def test_two_homes_share_no_key(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = make_home(tmp_path / "a").vault, make_home(tmp_path / "b").vault
    assert first.signing_public != second.signing_public
    assert first.sealing_public != second.sealing_public
    assert first.node_key_path.read_bytes() != second.node_key_path.read_bytes()


def test_the_policy_in_a_home_can_be_edited(tmp_path: Path) -> None:
    made = make_home(tmp_path)
    path = made.folder / "policy.toml"
    path.write_text(path.read_text().replace("min_users = 100", "min_users = 1000"))
    assert ClientHome.open(made.folder).policy == make_policy(min_users=1000)


def test_a_whole_home_put_back_is_noticed_when_the_marks_are_kept_elsewhere(tmp_path: Path) -> None:
    made, marks = make_home(tmp_path), tmp_path / "elsewhere.marks"
    (made.folder / "ledger.marks").rename(marks)
    (made.folder / "policy.toml").write_text(render_policy(make_policy(ledger_marks=str(marks))))
    shutil.copytree(made.folder, tmp_path / "backup")
    ClientHome.open(made.folder).ledger.answer_once([bytes(32)])
    shutil.rmtree(made.folder)
    shutil.copytree(tmp_path / "backup", made.folder)
    with pytest.raises(MalformedFile, match="older copy"):
        ClientHome.open(made.folder)
    assert [finding.check for finding in diagnose(made.folder, now=NOW) if finding.severity == "error"] == ["ledger"]
