"""URLs of PostgreSQL as its own programs are told them: complete, and with every secret out of sight."""

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url

from platform_api.operations.libpq import for_libpq
from shared.errors import BadSetting

SHOP = "postgresql+psycopg://mei:hid%20den@db.example.org:5433/shop"


@pytest.fixture(autouse=True)
def _no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSERVICE", raising=False)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (SHOP, {"host": "db.example.org", "port": "5433", "user": "mei", "dbname": "shop"}),
        (
            f"{SHOP}?sslmode=verify-full&sslrootcert=/etc/a%20b/ca.pem&connect_timeout=7&keepalives_idle=30",
            {
                "sslmode": "verify-full",
                "sslrootcert": "/etc/a b/ca.pem",
                "connect_timeout": "7",
                "keepalives_idle": "30",
                "host": "db.example.org",
                "port": "5433",
                "user": "mei",
                "dbname": "shop",
            },
        ),
        (
            "postgresql+psycopg://mei@/shop?host=one:5432&host=two:5433&target_session_attrs=read-write",
            {
                "host": "one,two",
                "port": "5432,5433",
                "user": "mei",
                "dbname": "shop",
                "target_session_attrs": "read-write",
            },
        ),
        (
            "postgresql+psycopg://mei@/shop?host=/run/postgresql&options=-c%20statement_timeout%3D0",
            {"host": "/run/postgresql", "user": "mei", "dbname": "shop", "options": "-c statement_timeout=0"},
        ),
        # The driver's own, which no other program knows.
        ("postgresql+psycopg:///shop?prepare_threshold=5&autocommit=true", {"dbname": "shop"}),
        ("postgresql+psycopg://", {}),
    ],
)
def test_every_parameter_that_libpq_knows_is_passed_on(url: str, expected: dict[str, str], tmp_path: Path) -> None:
    connection, environment = for_libpq(make_url(url), tmp_path)
    assert conninfo_to_dict(connection) == expected
    assert environment == ({"PGPASSWORD": "hid den"} if "hid" in url else {})
    assert list(tmp_path.iterdir()) == []


def test_a_password_in_the_query_is_no_argument_either(tmp_path: Path) -> None:
    connection, environment = for_libpq(make_url("postgresql+psycopg://h/shop?password=hidden"), tmp_path)
    assert "hidden" not in connection
    assert environment == {"PGPASSWORD": "hidden"}


def test_a_keys_pass_phrase_is_in_a_file_of_the_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_url(f"{SHOP}?sslkey=/etc/key&sslpassword=of%3Dthe%20key")
    connection, environment = for_libpq(url, tmp_path)
    assert conninfo_to_dict(connection)["sslkey"] == "/etc/key"
    assert "of=the key" not in connection + str(environment)
    [file] = tmp_path.iterdir()
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("[zhiyin]\nsslpassword=of=the key\n", 0o600)
    assert environment == {"PGPASSWORD": "hid den", "PGSERVICE": "zhiyin", "PGSERVICEFILE": str(file)}
    monkeypatch.setenv("PGSERVICE", "shop")
    with pytest.raises(BadSetting, match="move sslpassword into the service file"):
        for_libpq(url, tmp_path)


def test_a_line_break_cannot_add_parameters(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="sslpassword has a control character"):
        for_libpq(make_url(f"{SHOP}?sslpassword=a%0Asslmode%3Ddisable"), tmp_path)
