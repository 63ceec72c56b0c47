"""Tables whose rows are never changed or removed: the database itself refuses, whoever asks.

The triggers come with the table when it is created from its description; migrations run `refusal_statements`.
"""

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import DDL, Table, event

APPEND_ONLY: dict[str, tuple[Table, frozenset[str]]] = {}
"""Name of each such table -> it, and its columns that may change after all."""


def append_only(table: Table, *, except_columns: Collection[str] = ()) -> None:
    """Refuse UPDATE of all but the named columns, and DELETE, on SQLite and PostgreSQL.

    except_columns: for what must give way to a person's right to be forgotten.
    """
    APPEND_ONLY[table.name] = (table, frozenset(except_columns))
    for dialect in ("sqlite", "postgresql"):
        for statement in statements(table.name, dialect):
            # A percent sign would be a place for a parameter.
            ddl = DDL(statement.replace("%", "%%")).execute_if(dialect=dialect)  # type: ignore[no-untyped-call]
            event.listen(table, "after_create", ddl)


def statements(name: str, dialect: str) -> list[str]:
    """The SQL that makes the table of this name append-only, as its description stands now."""
    table, free = APPEND_ONLY[name]
    return refusal_statements(name, [column.name for column in table.columns if column.name not in free], dialect)


def refusal_statements(name: str, columns: Iterable[str], dialect: str) -> list[str]:
    """The SQL that refuses to change these columns of a table and to delete its rows; migrations state them."""
    fixed = ", ".join(columns)
    if dialect == "sqlite":
        refuse = f"BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END"
        return [
            f"CREATE TRIGGER {name}_no_update BEFORE UPDATE OF {fixed} ON {name} {refuse}",
            f"CREATE TRIGGER {name}_no_delete BEFORE DELETE ON {name} {refuse}",
        ]
    body = f"BEGIN RAISE EXCEPTION '{name} is append-only'; END"
    return [
        f"CREATE FUNCTION {name}_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
        f"CREATE TRIGGER {name}_no_update BEFORE UPDATE OF {fixed} ON {name} "
        f"FOR EACH ROW EXECUTE FUNCTION {name}_refuse()",
        f"CREATE TRIGGER {name}_no_delete BEFORE DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION {name}_refuse()",
        f"CREATE TRIGGER {name}_no_truncate BEFORE TRUNCATE ON {name} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {name}_refuse()",
    ]


def table_of(entity: Any) -> Table:
    """The table behind a table class."""
    table: Table = entity.__table__
    return table
