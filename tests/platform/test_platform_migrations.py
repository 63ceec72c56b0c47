"""Migrations on both databases: up, down and up again, the same tables as the descriptions, and nothing half-way."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table, inspect, text
from sqlalchemy.exc import DatabaseError
from sqlmodel import SQLModel

from platform_api import schema
from platform_api.append_only import APPEND_ONLY
from platform_api.columns import metadata
from platform_api.database import BrokenReference, Database
from platform_api.payments.tables import APPEND_ONLY as JOURNALS
from shared.errors import BadSetting, DeploymentError
from tests.platform_cast import opened_shop, settings_for

ROOT = Path(__file__).parents[2]
GUARDED = sorted({*APPEND_ONLY, *(str(entity.__tablename__) for entity in JOURNALS)})


@pytest.fixture
def empty(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def migrated(empty: Database) -> Database:
    schema.migrate(empty)
    return empty


def drift(database: Database, described: MetaData = metadata) -> list[Any]:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=schema.comparison())
        return list(compare_metadata(context, described))


def everything(database: Database) -> set[tuple[str, ...]]:
    """All that a database says of its tables, indexes, constraints, triggers and functions."""
    if database.is_sqlite:
        queries = ["SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%'"]
    else:
        here = "(SELECT oid FROM pg_namespace WHERE nspname = 'public')"
        queries = [
            "SELECT table_name, column_name, data_type, is_nullable, column_default, character_maximum_length "
            "FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'",
            f"SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = {here} "
            "AND conname NOT LIKE 'alembic%'",
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE 'alembic%'",
            "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
            f"SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = {here}",
        ]
    with database.engine.connect() as connection:
        rows = [row for query in queries for row in connection.execute(text(query))]
    return {tuple(" ".join(str(value).split()).replace("( ", "(").replace(" )", ")") for value in row) for row in rows}


def statement_in_order(row: tuple[str, ...]) -> tuple[str, ...]:
    """SQLite keeps the text of CREATE TABLE, in which constraints may stand in any order."""
    *names, sql = row
    inner = re.fullmatch(r"(CREATE TABLE \w+ \()(.*)\)", sql)
    parts = re.split(r", (?=\w+ [A-Z]|CONSTRAINT|PRIMARY|FOREIGN|UNIQUE|CHECK)", inner[2]) if inner else [sql]
    return (*names, *sorted(parts))


def test_migrations_go_up_down_and_up_again(empty: Database) -> None:
    before = everything(empty)
    assert [step.revision for step in schema.standing(empty).pending] == [step.revision for step in schema.steps()]
    schema.migrate(empty)
    first = everything(empty)
    assert schema.standing(empty) == schema.Standing(current=schema.steps()[-1].revision, pending=())
    schema.migrate_down(empty, "base")
    assert everything(empty) == before
    assert schema.standing(empty).current is None
    schema.migrate(empty)
    assert everything(empty) == first
    schema.migrate(empty)
    assert everything(empty) == first


def test_the_migrated_database_is_what_the_tables_describe(migrated: Database) -> None:
    assert drift(migrated) == []


def test_a_table_or_column_without_a_migration_is_drift(migrated: Database) -> None:
    described = MetaData()
    for table in metadata.tables.values():
        table.to_metadata(described)
    described.tables["orders"].append_column(Column("forgotten", Integer))
    Table("forgotten_table", described, Column("id", Integer, primary_key=True))
    assert {change[0] for change in drift(migrated, described)} == {"add_column", "add_table"}


def test_the_tests_tables_are_those_of_the_migrations(
    migrated: Database, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    by_migration = everything(migrated)
    schema.migrate_down(migrated, "base")
    SQLModel.metadata.create_all(migrated.engine)
    by_description = everything(migrated)
    if migrated.is_sqlite:
        by_migration = {statement_in_order(row) for row in by_migration}
        by_description = {statement_in_order(row) for row in by_description}
    assert by_description == by_migration
    assert len(by_migration) > 60
    # Triggers are part of the comparison: without one it fails.
    with migrated.migrating() as connection:
        on = "" if migrated.is_sqlite else " ON policies"
        connection.exec_driver_sql(f"DROP TRIGGER policies_no_update{on}")
    left = everything(migrated)
    assert len(by_migration - ({statement_in_order(row) for row in left} if migrated.is_sqlite else left)) == 1


ROWS = {
    "policies": "INSERT INTO policies VALUES (1, 'a', 'b', '2030-01-01')",
    "consent_receipts": "INSERT INTO consent_receipts VALUES (1, 'usr_1', 'training', TRUE, 1, '2030-01-01')",
    "journals": "INSERT INTO journals VALUES ('jrn_1', 'sale', 'ord_1', 'ord_1', '2030-01-01')",
    "postings": "INSERT INTO postings VALUES ('jrn_1', 0, 'platform-fee', '', '', 5, 'CNY')",
    "model_publishers": "INSERT INTO model_publishers VALUES ('pub_1', 'p', 'k', '2030-01-01', NULL)",
    "model_versions": "INSERT INTO model_versions VALUES ('mdl_1', 'm', 1, 'live', 'pub_1', 'd', 'd', 1, 'd', 'r', "
    "'', '[]', '2030-01-01')",
    "model_events": "INSERT INTO model_events VALUES (1, 'm', 'mdl_1', NULL, 'posted', '2030-01-01', NULL, NULL)",
    "privacy_releases": "INSERT INTO privacy_releases VALUES (1, 'mdl_1', 'm', 1, FALSE, 'r', 'd', '2030-01-01', "
    "'2030-01-01', 1, 1, 'a', 's', 'u', 'a', FALSE, '[]')",
}
CHANGED = {"journals": "kind", "postings": "amount_minor", "policies": "text_en", "model_events": "kind"}


def test_a_migrated_database_refuses_to_change_what_is_append_only(migrated: Database) -> None:
    assert set(GUARDED) <= set(ROWS)
    with migrated.migrating() as connection:
        for statement in ROWS.values():
            connection.exec_driver_sql(statement)
    for name in GUARDED:
        column = CHANGED.get(name, "purpose" if name == "consent_receipts" else "recipe")
        for statement in (f"UPDATE {name} SET {column} = {column}", f"DELETE FROM {name}"):
            with pytest.raises(DatabaseError, match="append-only"), migrated.migrating() as connection:
                connection.exec_driver_sql(statement)
    # Other tables are not guarded, so it is the triggers that refuse.
    with migrated.migrating() as connection:
        connection.exec_driver_sql("UPDATE model_versions SET recipe = 'other'")


def test_the_migrated_search_finds_chinese_words(migrated: Database, tmp_path: Path) -> None:
    names = {index["name"] for index in inspect(migrated.engine).get_indexes("search_documents")}
    tables = set(inspect(migrated.engine).get_table_names())
    assert "search_index" in (tables if migrated.is_sqlite else names)


def test_a_failing_migration_leaves_nothing_behind(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(connection: Any) -> None:
        connection.exec_driver_sql("SELECT nonsense FROM nowhere")

    before = everything(empty)
    monkeypatch.setattr("platform_api.search.tables.install_search", fails)
    with pytest.raises(DeploymentError, match="nothing of it was kept"):
        schema.migrate(empty)
    assert everything(empty) == before
    monkeypatch.undo()
    schema.migrate(empty)
    assert drift(empty) == []


def test_a_change_that_leaves_a_reference_to_nothing_is_not_kept(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    schema.migrate(database)
    with pytest.raises(BrokenReference, match="user_roles"), database.migrating() as connection:
        connection.exec_driver_sql("INSERT INTO user_roles VALUES ('usr_nobody', 'learner')")
    with database.reading() as session:
        assert session.execute(text("SELECT COUNT(*) FROM user_roles")).scalar_one() == 0
        assert session.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
    database.close()


def test_a_database_of_a_newer_version_or_of_other_means_is_refused_in_words(empty: Database) -> None:
    SQLModel.metadata.create_all(empty.engine)
    with pytest.raises(BadSetting, match="no migration made"):
        schema.migrate(empty)
    schema.stamp(empty)
    with pytest.raises(BadSetting, match="nonsense is no migration"):
        schema.migrate(empty, "nonsense")
    with empty.migrating() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BadSetting, match="9999, which this version does not know"):
        schema.standing(empty)


def test_readiness_waits_for_migrations(database_url: str, tmp_path: Path) -> None:
    with opened_shop(settings_for(database_url, tmp_path)) as shop:
        assert shop.http.get("/readyz").status_code == 200
        for version, reason in (("", "migrations are pending"), ("9999", "the database is of a newer version")):
            with shop.app.state.database.migrating() as connection:
                connection.exec_driver_sql("DELETE FROM alembic_version")
                if version:
                    connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{version}')")
            answer = shop.http.get("/readyz")
            assert (answer.status_code, answer.json()["detail"]) == (503, reason)
        assert shop.http.get("/healthz").status_code == 200


def test_a_draft_of_the_next_migration_holds_what_is_missing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    schema.migrate(database)
    with database.migrating() as connection:
        connection.exec_driver_sql("DROP TABLE webhook_receipts")
    draft = schema.write_step(database, "Receipts again", tmp_path).read_text(encoding="utf-8")
    database.close()
    assert "op.create_table('webhook_receipts'" in draft
    assert f"down_revision = {schema.steps()[-1].revision!r}" in draft
    assert "UtcDateTime" not in draft
    assert "AutoString" not in draft


def test_an_installed_wheel_brings_its_migrations(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("shared", "platform_api"):
        copytree(ROOT / name, tree / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tree / name).write_bytes((ROOT / name).read_bytes())
    build = "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=tree, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    used = (
        "from platform_api import schema; from platform_api.database import Database; d = Database('sqlite:///x.db'); "
        "schema.migrate(d); print(schema.__file__, schema.standing(d).current)"
    )
    path = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    told = subprocess.run(
        [sys.executable, "-c", used], cwd=tmp_path, env=path, check=True, capture_output=True, text=True
    ).stdout.split()
    assert told == [str(tmp_path / "site" / "platform_api" / "schema.py"), schema.steps()[-1].revision]
    assert (tmp_path / "site" / "platform_api" / "migrations" / "script.py.mako").is_file()
