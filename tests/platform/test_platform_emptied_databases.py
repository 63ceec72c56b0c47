"""What every other test on PostgreSQL stands on: a database that is lent again is as empty as a new one."""

from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlmodel import SQLModel


def rows_of(url: str) -> dict[str, int]:
    engine = create_engine(url)
    with engine.connect() as connection:
        counts = {
            table.name: connection.execute(text(f'SELECT count(*) FROM "{table.name}"')).scalar_one()
            for table in SQLModel.metadata.sorted_tables
        }
    engine.dispose()
    return {name: count for name, count in counts.items() if count}


def run(url: str, statement: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[arg-type]


POLICY = "INSERT INTO policies (version, text_zh, text_en, published_at) VALUES (1, '策', 'Policy', now())"


def test_what_a_test_left_is_gone_for_the_next(emptied: Any) -> None:
    with emptied.lent() as first:
        # Of the books that only grow, and of a common table.
        run(first, POLICY)
        run(first, "INSERT INTO tenants (id, name, created_at) VALUES ('t', 'T', now())")
        assert rows_of(first) == {"policies": 1, "tenants": 1}
        held = psycopg.connect(first.replace("+psycopg", ""))
        held.execute("SELECT 1 FROM tenants FOR UPDATE")
    with emptied.lent() as second:
        assert second == first
        assert rows_of(second) == {}
    held.close()


@pytest.mark.parametrize(
    "change",
    [
        "DROP INDEX ix_orders_status",
        "ALTER TABLE users ADD extra integer",
        "ALTER TABLE policies DISABLE TRIGGER policies_no_delete",
        "CREATE OR REPLACE FUNCTION policies_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
    ],
    ids=["an index", "a column", "a trigger", "a function"],
)
def test_a_database_whose_tables_were_altered_is_not_lent_again(emptied: Any, change: str) -> None:
    with emptied.lent() as first:
        run(first, change)
    with emptied.lent() as second:
        assert second != first
