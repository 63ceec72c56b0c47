"""The doctor: each thing that it looks for, broken, is found with its mend; nothing else is. And models by command."""

import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from platform_api import schema
from platform_api.consents.schemas import NewPolicy
from platform_api.consents.service import publish_policy
from platform_api.database import Database
from platform_api.models import queries
from platform_api.models.files import ArtifactStore
from platform_api.operations.doctor import Finding, examine
from platform_api.operations.registry import listed, promoted, rolled_back
from platform_api.operations.volume import Volume, seed_volume
from platform_api.settings import Settings
from platform_api.snapshots.service import PublishedSnapshots, make_snapshot
from shared.errors import ArtifactRejected, BadSetting
from tests.platform_cast import opened_shop, settings_for
from tests.platform_models import NUM_ITEMS, artifact, publisher_of

NOW = datetime.now(UTC)
SECRET = "whsec_dGVzdHMgb2YgdGhlIHBsYXRmb3Jt"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a marketplace in which nothing is wrong: version 2 is live, 1 was before it, 3 is a candidate."""
    folder = tmp_path_factory.mktemp("healthy")
    settings = settings_for(f"sqlite:///{folder}/platform.db", folder / "data")
    with opened_shop(settings) as shop:
        database = shop.app.state.database
        seed_volume(database, Volume(products=NUM_ITEMS, users=3, orders=5, tenants=2))
        snapshot, _ = make_snapshot(database, settings, NOW)
        publisher = publisher_of(shop)
        shop.app.state.snapshots = PublishedSnapshots(settings)
        with database.writing() as session:
            publish_policy(session, NewPolicy(text_zh="政策", text_en="policy"), NOW)
            catalogue = shop.app.state.snapshots.catalogue(session, snapshot.digest)
        for version in (1, 2):
            publisher.make_live(version, catalogue=catalogue)
        assert publisher.offer(artifact(3, catalogue=catalogue), catalogue).json()["state"] == "candidate"
    (folder / "platform.db").chmod(0o600)
    return folder


@dataclass
class Patient:
    """A copy to break. settings may be replaced."""

    settings: Settings
    database: Database

    def do(self, statement: str) -> None:
        with self.database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        with self.database.migrating() as connection:
            connection.exec_driver_sql(statement)

    def set(self, **changes: object) -> None:
        self.settings = self.settings.model_copy(update=changes)

    def findings(self, now: datetime = NOW) -> list[Finding]:
        self.database.close()
        return examine(self.settings, now)

    def complaints(self, now: datetime = NOW) -> dict[str, str]:
        return {found.check: found.level for found in self.findings(now) if found.level != "ok"}

    def file_of(self, version: int) -> Path:
        with self.database.reading() as session:
            row = queries.version(session, "recommender", version)
            assert row is not None
            return ArtifactStore(self.settings.data_folder).path(row.model_sha256)


@pytest.fixture
def patient(healthy: Path, tmp_path: Path) -> Iterator[Patient]:
    shutil.copytree(healthy, tmp_path / "copy")
    with socket.create_server(("127.0.0.1", 0)) as provider:
        settings = settings_for(
            f"sqlite:///{tmp_path}/copy/platform.db",
            tmp_path / "copy" / "data",
            provider_url=f"http://127.0.0.1:{provider.getsockname()[1]}",
            provider_key=SecretStr("the key of a shop in tests"),
        )
        database = Database(settings.database_url)
        yield Patient(settings, database)
        database.close()


def test_where_nothing_is_wrong_nothing_is_found(patient: Patient) -> None:
    findings = patient.findings()
    assert [found for found in findings if found.level != "ok"] == []
    assert len(findings) >= 14


def unbalance(patient: Patient) -> None:
    patient.do("DROP TRIGGER postings_no_update")
    patient.do("UPDATE postings SET amount_minor = amount_minor + 1 WHERE account = 'platform-fee'")


def damage_live(patient: Patient) -> None:
    patient.file_of(2).write_bytes(b"damaged")


def lose_key(patient: Patient) -> None:
    (patient.settings.data_folder / "keys" / "catalogue-signing.key").unlink()


def open_key(patient: Patient) -> None:
    (patient.settings.data_folder / "keys" / "catalogue-signing.key").chmod(0o644)


def lose_snapshot(patient: Patient) -> None:
    shutil.rmtree(patient.settings.data_folder / "snapshots")


def forget_policy(patient: Patient) -> None:
    patient.do("DROP TRIGGER policies_no_delete")
    patient.do("DELETE FROM policies")


def tear_database(patient: Patient) -> None:
    path = Path(str(patient.database.engine.url.database))
    patient.database.close()
    data = bytearray(path.read_bytes())
    # Every page but the first ones, which hold the schema.
    half = len(data) // 2
    data[half:] = bytes(len(data) - half)
    path.write_bytes(data)


BROKEN: dict[str, tuple[Callable[[Patient], object], dict[str, str]]] = {
    "weak key": (lambda p: p.set(secret_key=SecretStr("a" * 40)), {"secret key": "fail"}),
    "no webhook secret": (lambda p: p.set(webhook_secret=SecretStr("")), {"webhook secret": "fail"}),
    "two webhook secrets": (
        lambda p: p.set(webhook_secret=SecretStr(f"{SECRET} {SECRET}")),
        {"webhook secret": "warn"},
    ),
    "no provider key": (lambda p: p.set(provider_key=SecretStr("")), {"provider key": "fail"}),
    "provider is away": (lambda p: p.set(provider_url="http://127.0.0.1:9"), {"payment provider": "warn"}),
    "slash": (lambda p: p.set(public_url="https://x.example/"), {"public address": "fail"}),
    "no TLS": (lambda p: p.set(public_url="http://x.example"), {"public address": "warn"}),
    "open database": (lambda p: Path(str(p.database.engine.url.database)).chmod(0o644), {"permissions": "warn"}),
    "open key": (open_key, {"permissions": "fail", "live model": "fail"}),
    "lost key": (lose_key, {"snapshots": "fail", "live model": "fail"}),
    "lost snapshot": (lose_snapshot, {"snapshots": "fail", "live model": "fail"}),
    "pending": (lambda p: p.do("DELETE FROM alembic_version"), {"migrations": "fail"}),
    "newer": (lambda p: p.do("UPDATE alembic_version SET version_num = '9999'"), {"migrations": "fail"}),
    "unbalanced": (unbalance, {"ledger": "fail"}),
    "damaged model": (damage_live, {"model files": "fail", "live model": "fail"}),
    "damaged candidate": (lambda p: p.file_of(3).unlink(), {"model files": "fail"}),
    "no live model": (lambda p: p.set(recommender="another"), {"live model": "warn"}),
    "no policy": (
        lambda p: (p.do("DROP TRIGGER policies_no_delete"), p.do("DELETE FROM policies")),
        {"policy": "warn"},
    ),
    "no file": (lambda p: p.set(database_url="sqlite:////no/such/file.db"), {"database": "fail"}),
    "no database": (
        lambda p: p.set(database_url="postgresql+psycopg://127.0.0.1:9/x?connect_timeout=2"),
        {"database": "fail"},
    ),
    "no URL": (lambda p: p.set(database_url="nonsense"), {"database": "fail"}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found_and_nothing_else_is(patient: Patient, what: str) -> None:
    broken, wanted = BROKEN[what]
    broken(patient)
    assert patient.complaints() == wanted
    assert all(found.mend for found in patient.findings() if found.level != "ok")


def test_a_row_that_points_at_nothing_and_a_torn_file_are_found(patient: Patient) -> None:
    with patient.database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("PRAGMA foreign_keys=OFF")
        driver.execute("UPDATE orders SET user_id = 'usr_nobody'")
    assert patient.complaints() == {"integrity": "fail"}
    tear_database(patient)
    assert set(patient.complaints().values()) == {"fail"}


def test_a_clock_that_is_wrong_is_found(patient: Patient) -> None:
    assert patient.complaints(NOW - timedelta(days=4_000)) == {"clock": "fail", "time of rows": "fail"}


def test_no_finding_holds_a_secret(patient: Patient) -> None:
    patient.set(secret_key=SecretStr("hidden-" * 6), provider_key=SecretStr("hidden"))
    assert "hidden" not in str(patient.findings())


def test_models_are_promoted_and_rolled_back_by_one_command_each(patient: Patient) -> None:
    settings, database = patient.settings, patient.database

    def states() -> dict[int, str]:
        return {row["version"]: row["state"] for row in listed(database)}

    assert states() == {3: "candidate", 2: "live", 1: "retired"}
    assert rolled_back(settings, database, "recommender", NOW) == (2, 1)
    assert states() == {3: "candidate", 2: "retired", 1: "live"}
    with pytest.raises(ArtifactRejected, match="nothing was live before it"):
        rolled_back(settings, database, "recommender", NOW)
    with pytest.raises(BadSetting, match="nothing of the name other is live"):
        rolled_back(settings, database, "other", NOW)
    with pytest.raises(BadSetting, match="no version 9 of recommender"):
        promoted(settings, database, "recommender", 9, NOW)
    # Its report compares it with version 2, which is not live any more: the gate says so.
    with pytest.raises(ArtifactRejected, match="recommender 3: it does not pass the gate any more: "):
        promoted(settings, database, "recommender", 3, NOW)
    assert states() == {3: "candidate", 2: "retired", 1: "live"}
    with database.reading() as session:
        last = session.execute(text("SELECT kind, client_id FROM model_events ORDER BY number DESC LIMIT 1")).one()
    assert tuple(last) == ("rolled-back", "command-line")


def test_a_candidate_that_passes_is_live_after_one_command(patient: Patient) -> None:
    promoted(patient.settings, patient.database, "recommender", 3, NOW, shadow=True)
    promoted(patient.settings, patient.database, "recommender", 3, NOW)
    assert {row["version"]: row["state"] for row in listed(patient.database)} == {3: "live", 2: "retired", 1: "retired"}
    assert patient.complaints() == {}
    assert schema.standing(patient.database).pending == ()
