"""The newest list of parties is remembered: an older one and a second one of its epoch are refused from then on."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from client.durable_files import erase_file
from client.ledger import Ledger
from client.vault import Vault
from shared.errors import BadSetting, ForkedRoster, MalformedFile, OldRoster, UnknownKey
from shared.mechanism import Gaussian

ISSUER = "a" * 64
FIRST, SECOND = b"\x01" * 32, b"\x02" * 32


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "ledger.db", clock=lambda: 1_700_000_000.0)


def test_before_the_first_list_none_is_known(ledger: Ledger) -> None:
    assert ledger.newest_roster(ISSUER) is None
    assert ledger.rosters() == ()


def test_the_newest_list_is_remembered_after_a_restart(ledger: Ledger) -> None:
    ledger.accept_roster(issuer=ISSUER, epoch=3, digest=FIRST)
    newest = Ledger.open(ledger.path).newest_roster(ISSUER)
    assert newest is not None
    assert (newest.epoch, newest.digest) == (3, FIRST)


def test_the_same_list_again_records_nothing(ledger: Ledger) -> None:
    ledger.accept_roster(issuer=ISSUER, epoch=3, digest=FIRST)
    before = (ledger.path.read_bytes(), ledger.marks.read_bytes())
    ledger.accept_roster(issuer=ISSUER, epoch=3, digest=FIRST)
    assert (ledger.path.read_bytes(), ledger.marks.read_bytes()) == before
    assert len(ledger.rosters()) == 1


def test_an_older_list_is_refused_even_one_that_was_accepted_in_its_time(ledger: Ledger) -> None:
    ledger.accept_roster(issuer=ISSUER, epoch=3, digest=FIRST)
    ledger.accept_roster(issuer=ISSUER, epoch=9, digest=SECOND)
    for epoch in (1, 3, 8):
        with pytest.raises(OldRoster, match=f"epoch {epoch}, this party has accepted one of epoch 9"):
            Ledger.open(ledger.path).accept_roster(issuer=ISSUER, epoch=epoch, digest=FIRST)
    assert [entry.step for entry in ledger.rosters()] == [3, 9]


def test_another_list_of_the_same_epoch_is_refused(ledger: Ledger) -> None:
    ledger.accept_roster(issuer=ISSUER, epoch=3, digest=FIRST)
    with pytest.raises(ForkedRoster, match="two lists claim epoch 3"):
        Ledger.open(ledger.path).accept_roster(issuer=ISSUER, epoch=3, digest=SECOND)
    assert [entry.context for entry in ledger.rosters()] == [FIRST]


def test_a_client_that_pins_another_issuer_begins_anew_and_going_back_forgets_nothing(ledger: Ledger) -> None:
    ledger.accept_roster(issuer=ISSUER, epoch=2**53 - 1, digest=FIRST)  # what a thief of its key would do
    assert ledger.newest_roster("b" * 64) is None
    ledger.accept_roster(issuer="b" * 64, epoch=1, digest=SECOND)
    with pytest.raises(OldRoster):
        ledger.accept_roster(issuer=ISSUER, epoch=1, digest=b"\x03" * 32)
    newest = ledger.newest_roster("b" * 64)
    assert newest is not None
    assert newest.epoch == 1


def test_a_new_issuer_may_begin_with_the_very_list_that_the_old_one_signed(ledger: Ledger) -> None:
    ledger.accept_roster(issuer=ISSUER, epoch=1, digest=FIRST)
    ledger.accept_roster(issuer="b" * 64, epoch=1, digest=FIRST)
    assert [(entry.job_id, entry.context) for entry in ledger.rosters()] == [(ISSUER, FIRST), ("b" * 64, FIRST)]


def test_lists_are_no_part_of_the_account_and_do_not_disturb_it(ledger: Ledger) -> None:
    charged = {"job_id": "j", "step": 0, "mechanism": Gaussian(noise_std=9, sensitivity=1), "budget": None}
    ledger.charge(**charged, attempt=0, context=FIRST, job_budget=None)
    ledger.accept_roster(issuer=ISSUER, epoch=1, digest=FIRST)
    ledger.answer_once([FIRST])
    ledger.charge(**charged, attempt=1, context=SECOND, job_budget=None)
    again = Ledger.open(ledger.path)
    assert [entry.kind for entry in again.entries()] == ["release", "answer", "release"]
    assert [entry.sequence for entry in again.rosters()] == [2]
    assert len(again.spent()) == 2


def test_a_list_taken_out_of_the_ledger_is_noticed(ledger: Ledger) -> None:
    ledger.accept_roster(issuer=ISSUER, epoch=1, digest=FIRST)
    ledger.accept_roster(issuer=ISSUER, epoch=2, digest=SECOND)
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("DROP TRIGGER entries_no_DELETE")
        connection.execute("DELETE FROM entries WHERE step = 2")
    connection.close()
    with pytest.raises(MalformedFile, match="older copy"):
        ledger.accept_roster(issuer=ISSUER, epoch=1, digest=FIRST)


def test_an_older_copy_of_the_ledger_cannot_forget_a_list(ledger: Ledger, tmp_path: Path) -> None:
    ledger.accept_roster(issuer=ISSUER, epoch=1, digest=FIRST)
    shutil.copy2(ledger.path, tmp_path / "copy.db")
    ledger.accept_roster(issuer=ISSUER, epoch=2, digest=SECOND)
    shutil.copy2(tmp_path / "copy.db", ledger.path)
    with pytest.raises(MalformedFile, match="older copy"):
        ledger.accept_roster(issuer=ISSUER, epoch=1, digest=FIRST)


def test_a_ledger_of_the_first_format_is_refused_by_name(ledger: Ledger) -> None:
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("DROP TRIGGER identity_no_UPDATE")
        connection.execute("UPDATE identity SET version = 'zhiyin-ledger-1'")
    connection.close()
    with pytest.raises(MalformedFile, match="not a ledger of version zhiyin-ledger-2"):
        Ledger.open(ledger.path)


# --- the sealing keys of a vault ---


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.create(tmp_path / "keys")


def names(vault: Vault) -> list[str]:
    return sorted(path.name for path in vault.folder.iterdir() if "seal" in path.name)


def test_a_new_sealing_key_stands_beside_the_old_one_until_that_is_erased(vault: Vault) -> None:
    old = vault.sealing_public
    both = vault.make_sealing_key()
    assert names(both) == ["seal-0001.key", "seal-0002.key"]
    assert both.sealing_public != old
    assert both.opening_key(old).public_key().public_bytes_raw().hex() == old
    assert both.erase_older_than(both.sealing_public) == (1,)
    left = Vault.open(vault.folder)
    assert names(left) == ["seal-0002.key"]
    with pytest.raises(UnknownKey, match="does not hold"):
        left.opening_key(old)
    assert left.make_sealing_key().erase_older_than("5" * 64) == ()  # an unknown key erases nothing
    assert names(left) == ["seal-0002.key", "seal-0003.key"]


def test_naming_the_older_key_erases_nothing(vault: Vault) -> None:
    old = vault.sealing_public
    assert vault.make_sealing_key().erase_older_than(old) == ()
    assert names(vault) == ["seal-0001.key", "seal-0002.key"]


def test_an_erased_file_was_overwritten_before_it_was_removed(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = vault.make_sealing_key()
    (tmp_path / "inode").hardlink_to(vault.folder / "seal-0001.key")
    before = (tmp_path / "inode").read_bytes()
    both.erase_older_than(both.sealing_public)
    after = (tmp_path / "inode").read_bytes()
    assert len(after) == len(before)
    assert sum(a == b for a, b in zip(before, after, strict=True)) < len(before) // 4
    # Removing alone leaves the bytes, which is what the check must see.
    shutil.copy2(vault.folder / "seal-0002.key", tmp_path / "plain")
    (tmp_path / "link").hardlink_to(tmp_path / "plain")
    (tmp_path / "plain").unlink()
    assert b"PRIVATE KEY" in (tmp_path / "link").read_bytes()


@pytest.mark.parametrize("survived", ["rename", "overwrite"])
def test_a_crash_while_erasing_leaves_a_vault_that_opens_and_the_rest_is_done_next_time(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, survived: str
) -> None:
    both = vault.make_sealing_key()

    def cut(path: Path) -> None:
        if survived == "overwrite":
            path.write_bytes(b"\xff" * path.stat().st_size)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("client.vault.erase_file", cut)
        with pytest.raises(KeyboardInterrupt):
            both.erase_older_than(both.sealing_public)
    again = Vault.open(vault.folder)
    assert list(again.sealing_keys) == [2]
    assert names(again) == [".seal-0001.key.erased", "seal-0002.key"]
    again.erase_older_than(again.sealing_public)
    assert names(again) == ["seal-0002.key"]


def test_a_vault_without_a_sealing_key_opens_and_can_make_one(vault: Vault) -> None:
    erase_file(vault.folder / "seal-0001.key")
    bare = Vault.open(vault.folder)
    assert bare.sealing_public == ""
    with pytest.raises(BadSetting, match="keys rotate"):
        bare.certify("north", not_before=0, not_after=1)
    assert bare.make_sealing_key().sealing_public != ""


def test_a_new_identity_replaces_the_old_one_and_nothing_else(vault: Vault) -> None:
    signing, node = vault.signing_public, vault.node_public
    again = vault.replace_signing_key()
    assert again.signing_public != signing
    assert (again.node_public, again.sealing_public) == (node, vault.sealing_public)
    fresh = again.replace_node_key()
    assert fresh.node_public != node
    assert fresh.node_public == fresh.node_public_path.read_text().strip()
