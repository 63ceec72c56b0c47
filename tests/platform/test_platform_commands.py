"""`zhiyin platform`: what the commands do, and the one line that they say when they cannot."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from typer.testing import CliRunner

from platform_api import schema
from platform_api.accounts import service as accounts
from platform_api.app import create_app
from platform_api.cli import platform_app
from platform_api.database import Database
from platform_api.operations.sample import PEOPLE, PRODUCTS, seed_sample
from platform_api.operations.volume import Volume, seed_volume
from platform_api.payments import ledger
from platform_api.payments.reconcile import Finding, Report
from platform_api.settings import PREFIX
from shared.errors import BadSetting, DeploymentError, PortInUse, ZhiyinError
from simulations import console
from tests.platform_cast import API, Hand, Person, Shop, settings_for

RUNNER = CliRunner()
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _own_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def place(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The database that the commands' environment names, not migrated yet."""
    for name, value in {
        "DATABASE_URL": database_url,
        "SECRET_KEY": "a secret for tests, long enough to be one",
        "DATA_FOLDER": str(tmp_path / "data"),
        "ERASURE_JOURNAL": str(tmp_path / "erasures.txt"),
        "WEBHOOK_SECRET": "whsec_dGVzdHMgb2YgdGhlIHBsYXRmb3Jt",
        "PROVIDER_KEY": "the key of a shop in tests",
        "PROVIDER_URL": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(PREFIX + name, value)
    monkeypatch.delenv("ZHIYIN_SEED_PASSWORD", raising=False)
    database = Database(database_url)
    yield database
    database.close()


# What has nothing to do with the kind of database is shown on one; both are had where two tests do the same.
ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def run(*arguments: object, code: int = 0) -> str:
    done = RUNNER.invoke(platform_app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if isinstance(done.exception, ZhiyinError):
        raise done.exception
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def rows(database: Database, query: str) -> list[Any]:
    with database.reading() as session:
        return list(session.execute(text(query)).scalars())


def test_migrate_shows_goes_up_and_goes_down(place: Database) -> None:
    newest = schema.steps()[-1].revision
    assert [entry["applied"] for entry in json.loads(run("migrate", "--show", "--json"))] == [False] * len(
        schema.steps()
    )
    assert schema.standing(place).current is None
    assert all(entry["applied"] for entry in json.loads(run("migrate", "--json")))
    assert schema.standing(place).current == newest
    run("migrate", "--down-to", "base")
    assert schema.standing(place).current is None
    assert "The first tables" in run("migrate")


@ON_SQLITE
@pytest.mark.parametrize(
    "command", [["serve"], ["seed"], ["reconcile"], ["model", "list"], ["model", "promote", "1"], ["model", "rollback"]]
)
def test_nothing_runs_while_migrations_are_pending(place: Database, command: list[str]) -> None:
    with pytest.raises(DeploymentError, match=r"0001 \(The first tables\).*run: zhiyin platform migrate"):
        run(*command)


@ON_SQLITE
def test_what_is_wrong_is_one_line_of_the_whole_command(
    place: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["zhiyin", "platform", "serve"])
    with pytest.raises(SystemExit) as left:
        console.main()
    told = capsys.readouterr()
    assert (left.value.code, told.out) == (6, "")
    assert told.err.startswith("zhiyin: migrations are pending: 0001 (The first tables)")
    assert told.err.endswith("run: zhiyin platform migrate\n")
    assert told.err.count("\n") == 1


@ON_SQLITE
def test_a_setting_that_is_missing_or_wrong_is_named_with_the_mend(
    place: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHIYIN_PLATFORM_DATABASE_ULR", "x")
    with pytest.raises(BadSetting, match="did you mean ZHIYIN_PLATFORM_DATABASE_URL"):
        run("migrate")
    monkeypatch.delenv("ZHIYIN_PLATFORM_DATABASE_ULR")
    for url in ("nonsense", "mysql://x", "postgresql+psycopg://127.0.0.1:1/x", "sqlite:////no/such/folder/x.db"):
        monkeypatch.setenv("ZHIYIN_PLATFORM_DATABASE_URL", url)
        with pytest.raises(ZhiyinError, match="ZHIYIN_PLATFORM_DATABASE_URL: ") as told:
            run("migrate")
        assert "\n" not in str(told.value)
    monkeypatch.delenv("ZHIYIN_PLATFORM_SECRET_KEY")
    with pytest.raises(BadSetting, match="ZHIYIN_PLATFORM_SECRET_KEY is not set: at least 32 characters"):
        run("seed")


@ON_SQLITE
def test_the_sample_can_be_bought_in_both_languages_and_consented_to(place: Database, database_url: str) -> None:
    run("migrate")
    told = json.loads(run("seed", "--json"))
    assert told["products"] == sum(map(len, PRODUCTS.values()))
    with opened_shop_on(database_url) as shop:
        for words in ("隐私", "differential"):
            assert shop.http.get(f"{API}/search", params={"q": words}).json()["items"], words
        assert len(shop.http.get(f"{API}/products?limit=100").json()["items"]) == told["products"]
        assert shop.http.get(f"{API}/policies/current").json()["version"] == 1
        operator: Person = shop.log_in("operator@example.org", told["passwords"]["operator@example.org"])
        assert operator.get("/ledger/balances").status_code == 200
        learner = shop.register()
        assert learner.get("/ledger/balances").status_code == 403


@contextmanager
def opened_shop_on(database_url: str) -> Iterator[Shop]:
    settings = settings_for(database_url, Path(os.environ[PREFIX + "DATA_FOLDER"]))
    clock = Hand()
    with TestClient(create_app(settings, clock=clock), base_url=settings.public_url) as http:
        yield Shop(http, clock, settings)


@ON_POSTGRESQL
def test_seeding_again_adds_only_what_is_missing(place: Database) -> None:
    run("migrate")
    first = run("seed")
    assert all(person.email in first for person in PEOPLE)
    hashes = rows(place, "SELECT password_hash FROM users ORDER BY id")
    again = json.loads(run("seed", "--json"))
    assert again == {"tenants": 0, "categories": 0, "products": 0, "policy": False, "passwords": {}}
    assert rows(place, "SELECT password_hash FROM users ORDER BY id") == hashes
    with place.writing() as session:
        session.execute(text("DELETE FROM search_documents"))
        session.execute(text("DELETE FROM consulting_slots"))
        session.execute(text("DELETE FROM product_versions WHERE title = '古琴初阶'"))
    assert json.loads(run("seed", "--json"))["products"] == 1


@ON_SQLITE
def test_passwords_come_from_the_environment_or_a_prompt_and_are_then_not_shown(
    place: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("migrate")
    monkeypatch.setenv("ZHIYIN_SEED_PASSWORD", "short")
    with pytest.raises(BadSetting, match="10 to 200 characters"):
        run("seed")
    assert rows(place, "SELECT id FROM users") == []
    monkeypatch.setenv("ZHIYIN_SEED_PASSWORD", "from the environment")
    assert "from the environment" not in run("seed")
    hashes = rows(place, "SELECT password_hash FROM users")
    assert all(accounts.HASHER.verify("from the environment", found) for found in hashes)
    typed = "from the prompt\n" * 2
    done = RUNNER.invoke(platform_app, ["operator", "Boss@Example.org", "--ask"], input=typed)
    assert done.exit_code == 0
    assert "from the prompt" not in done.output
    (found,) = rows(place, "SELECT password_hash FROM users WHERE email = 'boss@example.org'")
    assert accounts.HASHER.verify("from the prompt", found)


@ON_SQLITE
def test_an_existing_account_becomes_operator_and_keeps_its_password_and_roles(place: Database) -> None:
    run("migrate")
    run("seed")
    before = rows(place, "SELECT password_hash FROM users WHERE email = 'mingde@example.org'")
    assert "an operator now; the account's password is what it was" in run("operator", "mingde@example.org")
    assert rows(place, "SELECT password_hash FROM users WHERE email = 'mingde@example.org'") == before
    query = (
        "SELECT role FROM user_roles JOIN users ON users.id = user_id WHERE email = 'mingde@example.org' ORDER BY role"
    )
    assert rows(place, query) == ["creator", "learner", "platform-operator", "tenant-operator"]
    with pytest.raises(BadSetting, match="give one like"):
        run("operator", "nobody")


@ON_SQLITE
def test_a_volume_is_the_same_for_the_same_seed_and_its_books_balance(place: Database, tmp_path: Path) -> None:
    wanted = Volume(products=60, users=200, orders=500, tenants=4)
    schema.migrate(place)
    seed_volume(place, wanted)
    with place.reading() as session:
        assert ledger.unbalanced_journals(session) == []
        assert sum(balance.minor for balance in ledger.balances(session)) == 0
    other = Database(f"sqlite:///{tmp_path}/other.db")
    schema.migrate(other)
    seed_volume(other, wanted)
    for query in (
        "SELECT user_id || product_id FROM entitlements ORDER BY id",
        "SELECT title || price_minor FROM product_versions ORDER BY product_id",
        "SELECT words FROM search_documents ORDER BY product_id",
        "SELECT amount_minor FROM postings ORDER BY journal_id, position",
    ):
        assert rows(place, query) == rows(other, query)
    assert [len(rows(other, f"SELECT 1 FROM {name}")) for name in ("products", "users", "orders", "entitlements")] == [
        60, 200, 500, 500,
    ]  # fmt: skip
    with pytest.raises(BadSetting, match="there already"):
        seed_volume(other, wanted)
    other.close()
    different = Database(f"sqlite:///{tmp_path}/different.db")
    schema.migrate(different)
    seed_volume(different, Volume(products=60, users=200, orders=500, tenants=4, seed="another"))
    query = "SELECT user_id || product_id FROM entitlements ORDER BY id"
    assert rows(place, query) != rows(different, query)
    different.close()


@ON_POSTGRESQL
def test_a_volume_is_found_by_search_and_owned_by_its_buyers(place: Database, database_url: str) -> None:
    run("migrate")
    run("seed", "--large", "--products", 40, "--users", 50, "--orders", 100)
    with opened_shop_on(database_url) as shop:
        assert shop.http.get(f"{API}/search", params={"q": "隐私"}).json()["items"]
        assert len(shop.http.get(f"{API}/products?limit=100").json()["items"]) == 40
    with pytest.raises(BadSetting, match="orders must be between 0 and"):
        run("seed", "--large", "--products", 2, "--users", 2, "--orders", 100)


@ON_SQLITE
def test_reconcile_says_when_the_provider_does_not_answer(place: Database) -> None:
    run("migrate")
    with pytest.raises(DeploymentError, match="ZHIYIN_PLATFORM_PROVIDER_URL: the payment provider at"):
        run("reconcile")


@ON_SQLITE
def test_a_port_that_is_taken_is_said(place: Database) -> None:
    run("migrate")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUse, match="choose --host and --port"):
            run("serve", "--port", taken.getsockname()[1])


@ON_SQLITE
def test_the_sandbox_needs_what_both_sides_share(place: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WEBHOOK_SECRET", "PROVIDER_KEY"):
        with monkeypatch.context() as without:
            without.delenv(PREFIX + name)
            with pytest.raises(BadSetting, match=f"{PREFIX}{name} is not set"):
                run("sandbox")


def test_what_commands_make_is_their_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "DATABASE_URL", f"sqlite:///{tmp_path}/own.db")
    monkeypatch.setenv(PREFIX + "SECRET_KEY", "a secret for tests, long enough to be one")
    run("migrate")
    assert (tmp_path / "own.db").stat().st_mode & 0o077 == 0


@ON_SQLITE
def test_an_account_of_the_sample_that_is_gone_is_made_anew(place: Database) -> None:
    schema.migrate(place)
    seed_sample(place, NOW)
    with place.writing() as session:
        session.execute(text("UPDATE users SET email = NULL WHERE email = 'reviewer@example.org'"))
        session.execute(text("DELETE FROM search_documents"))
    added = seed_sample(place, NOW)
    assert list(added.passwords) == ["reviewer@example.org"]


@ON_SQLITE
@pytest.mark.parametrize(("action", "code"), [("corrected", 0), ("flagged", 1)])
def test_reconcile_says_what_it_did_and_what_is_left_for_a_person(
    place: Database, monkeypatch: pytest.MonkeyPatch, action: Any, code: int
) -> None:
    run("migrate")
    found = Finding(kind="refund-lost", subject_id="rfd_1", action=action, detail="succeeded")
    report = Report(intents_seen=3, refunds_seen=2, findings=(found,))
    asked: list[Any] = []
    monkeypatch.setattr("platform_api.operations.money.reconcile", lambda *values: asked.append(values) or report)
    told = run("reconcile", "--since", "2030-01-01", code=code)
    assert "3 payments and 2 refunds compared" in told
    assert all(word in told for word in ("refund-lost", "rfd_1", action))
    assert asked[0][2] == NOW
    said = json.loads(run("reconcile", "--json", code=code))
    assert (said["clean"], said["findings"][0]["subject_id"]) == (code == 0, "rfd_1")
