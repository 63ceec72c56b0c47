"""Who was erased stays erased: recorded before it counts, in a file that a restore does not take back."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import text
from structlog.testing import capture_logs
from typer.testing import CliRunner

from platform_api.cli import platform_app
from platform_api.consents.service import erase_person
from platform_api.erasures import ErasureJournal
from platform_api.operations.backups import back_up
from platform_api.operations.doctor import examine
from platform_api.operations.erasures import settle
from platform_api.settings import PREFIX, Settings
from shared.errors import DeploymentError
from tests.platform_cast import PASSWORD, Person, Shop, opened_shop

ON_SQLITE = pytest.mark.parametrize("ready_url", ["sqlite"], indirect=True)


def journal_of(shop: Shop) -> Path:
    return shop.settings.erasure_journal


def erase(person: Person) -> Any:
    return person.post("/me/erase", {"password": PASSWORD})


def named(shop: Shop) -> set[str]:
    """Addresses of whoever is there."""
    with shop.app.state.database.reading() as session:
        return set(session.execute(text("SELECT email FROM users WHERE email IS NOT NULL")).scalars())


def checked(settings: Settings, shop: Shop) -> tuple[str, str]:
    [found] = [entry for entry in examine(settings, shop.clock.now) if entry.check == "erasure journal"]
    return found.level, found.detail


def command(monkeypatch: pytest.MonkeyPatch, settings: Settings, *arguments: str) -> Any:
    for name in ("database_url", "data_folder", "erasure_journal"):
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv(f"{PREFIX}SECRET_KEY", settings.secret_key.get_secret_value())
    monkeypatch.setattr("platform_api.cli.os.umask", lambda mask: mask)
    done = CliRunner().invoke(platform_app, list(arguments))
    assert done.exit_code == 0, (done.output, done.exception)
    return done


@ON_SQLITE
def test_a_restore_erases_again_whoever_was_erased_since_the_backup(
    settings_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: Settings = settings_of()
    archive = tmp_path / "backup"
    with opened_shop(settings) as shop:
        gone, stays = shop.register("gone@example.org"), shop.register("stays@example.org")
        back_up(settings, shop.app.state.database, archive, shop.clock.now)
        assert erase(gone).status_code == 200
        assert settings.erasure_journal.read_text() == f"{gone.id}\n"
        assert settings.erasure_journal.stat().st_mode & 0o777 == 0o600
    shop.app.state.database.close()
    restore = ("restore", str(archive), "--force")
    told = json.loads(command(monkeypatch, settings, *restore, "--json").stdout)
    assert told["erased_again"] == 1
    assert named(shop) == {"stays@example.org"}
    assert stays.id not in settings.erasure_journal.read_text()
    shop.app.state.database.close()
    # Without the journal the restore cannot know, and says so.
    settings.erasure_journal.rename(tmp_path / "mislaid")
    done = command(monkeypatch, settings, *restore)
    assert "no such file; whoever was erased since the backup is there again" in done.stderr
    assert named(shop) == {"stays@example.org", "gone@example.org"}
    shop.app.state.database.close()
    # An older backup has to be migrated first; then the service erases before it serves anybody.
    (tmp_path / "mislaid").rename(settings.erasure_journal)
    with monkeypatch.context() as older:
        older.setattr("platform_api.cli.schema.standing", lambda database: SimpleNamespace(pending=("a step",)))
        done = command(older, settings, *restore, "--json")
    assert json.loads(done.stdout)["erased_again"] is None
    assert "erased again by serve" in done.stderr
    served: list[set[str]] = []
    monkeypatch.setattr("platform_api.operations.serving.serve", lambda *_: served.append(named(shop)))
    assert "1 erased again, 0 recorded" in command(monkeypatch, settings, "serve").stderr
    assert served == [{"stays@example.org"}]
    assert command(monkeypatch, settings, "serve").stderr == ""


def test_settling_brings_journal_and_database_together_and_changes_nothing_twice(shop: Shop) -> None:
    database, now = shop.app.state.database, shop.clock.now
    gone, recorded, stays = (shop.register(f"{name}@example.org") for name in ("gone", "recorded", "stays"))
    assert erase(gone).status_code == 200
    journal_of(shop).write_text(f"usr_of_another_database\n{recorded.id}\n")
    found = settle(shop.settings, database, now)
    assert (found.again, found.behind) == ((recorded.id,), (gone.id,))
    assert named(shop) == {"stays@example.org"}
    assert stays.get("/me").status_code == 200
    assert recorded.get("/me").status_code == 401
    assert journal_of(shop).read_text() == f"usr_of_another_database\n{recorded.id}\n{gone.id}\n"
    with database.reading() as session:
        erased = session.execute(text("SELECT id, erased_at FROM users ORDER BY id")).all()
    later = now + timedelta(days=1)
    found = settle(shop.settings, database, later)
    with database.writing() as session:  # another process was faster
        erase_person(session, shop.app.state.features, recorded.id, later)
    assert (found.again, found.behind) == ((), ())
    with database.reading() as session:
        assert session.execute(text("SELECT id, erased_at FROM users ORDER BY id")).all() == erased


def test_what_cannot_be_recorded_is_not_erased(shop: Shop, tmp_path: Path) -> None:
    person = shop.register("whole@example.org")
    journal_of(shop).mkdir()
    with capture_logs() as logs:
        assert erase(person).status_code == 503
    assert [(line["event"], line["error"]) for line in logs if "error" in line] == [
        ("an erasure could not be recorded", "IsADirectoryError")
    ]
    assert person.id not in str(logs)
    assert (named(shop), person.get("/me").status_code) == ({"whole@example.org"}, 200)
    with pytest.raises(DeploymentError, match="ERASURE_JOURNAL"):
        settle(shop.settings, shop.app.state.database, shop.clock.now)
    journal_of(shop).rmdir()
    assert erase(person).status_code == 200
    assert named(shop) == set()


@ON_SQLITE
def test_a_line_that_does_not_reach_the_disk_is_taken_out_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = shop.register("first@example.org"), shop.register("second@example.org")
    assert erase(first).status_code == 200
    before = journal_of(shop).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert erase(second).status_code == 503
    assert journal_of(shop).read_bytes() == before
    settle(shop.settings, shop.app.state.database, shop.clock.now)
    assert named(shop) == {"second@example.org"}


@ON_SQLITE
def test_it_is_on_the_disk_before_the_erasure_counts(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    person = shop.register("first@example.org")
    add, fsync, seen = ErasureJournal.add, os.fsync, []

    def watched(journal: ErasureJournal, ids: Any) -> None:
        add(journal, ids)
        seen.append((named(shop), sorted(synced)))

    synced: list[str] = []

    def noted(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(ErasureJournal, "add", watched)
    monkeypatch.setattr(os, "fsync", noted)
    assert erase(person).status_code == 200
    path = journal_of(shop)
    assert seen == [({"first@example.org"}, sorted([path.name, path.parent.name]))]


def test_lines_of_many_at_once_and_after_a_torn_one_stay_whole(tmp_path: Path) -> None:
    journal = ErasureJournal(tmp_path / "journal")
    assert (journal.read().there, journal.read().ids) == (False, frozenset())
    journal.path.write_bytes(b"usr_a\nusr_b\nus")
    ids = [f"usr_{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: journal.add([one]), ids))
    found = journal.read()
    assert (found.ids, found.unreadable) == (frozenset({"usr_a", "usr_b", *ids}), 1)
    with pytest.raises(FileNotFoundError):
        ErasureJournal(tmp_path / "not mounted" / "journal").add(["usr_a"])


def test_the_journal_is_not_kept_where_a_restore_would_take_it_back(tmp_path: Path, settings_of: Any) -> None:
    for inside in ("data/erasures.txt", "elsewhere/../data/keys/erasures.txt"):
        with pytest.raises(ValidationError, match="outside of the data folder"):
            settings_of(erasure_journal=tmp_path / inside)
    assert settings_of(erasure_journal=tmp_path / "data-erasures.txt").erasure_journal.name == "data-erasures.txt"


@ON_SQLITE
def test_the_doctor_notices_a_journal_that_is_missing_or_behind_or_ahead(shop: Shop) -> None:
    gone, other = shop.register(), shop.register()
    assert checked(shop.settings, shop)[0] == "ok"
    assert erase(gone).status_code == 200
    assert checked(shop.settings, shop) == ("ok", "1 erasures, all carried out")
    path = journal_of(shop)
    path.write_text("")
    assert checked(shop.settings, shop) == ("fail", f"{path} is behind: 1 erasures are not in it")
    path.unlink()
    assert checked(shop.settings, shop) == ("fail", f"{path} is missing: 1 erasures are not in it")
    path.write_text(f"{gone.id}\n{other.id}\n")
    assert checked(shop.settings, shop) == ("fail", "1 people who were erased are there again")
    path.write_text(f"{gone.id}\nus")
    assert checked(shop.settings, shop)[0] == "warn"
    elsewhere = shop.settings.model_copy(update={"erasure_journal": path.parent / "none" / "journal"})
    assert checked(elsewhere, shop)[0] == "fail"
    assert "cannot be written" in checked(elsewhere, shop)[1]
