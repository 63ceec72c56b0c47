"""What is indexed: one row for each product on sale, and the index of each database over it.

The database keeps its own index in step with the rows, so a row and what finds it are of one transaction.
"""

from typing import Any

from sqlalchemy import JSON, Column, Connection, ForeignKey, String, Table, Text, event
from sqlmodel import Field, SQLModel

from platform_api.columns import metadata


class SearchDocument(SQLModel, table=True):
    """words: what the index reads, each index word once. counts: index word -> counts by field."""

    __tablename__ = "search_documents"

    number: int | None = Field(default=None, primary_key=True)
    product_id: str = Field(sa_column=Column(String, ForeignKey("products.id"), unique=True, nullable=False))
    words: str = Field(sa_column=Column(Text, nullable=False))
    counts: dict[str, list[int]] = Field(sa_column=Column(JSON, nullable=False))
    title_length: int
    category_length: int
    description_length: int


_SQLITE = (
    """
    CREATE VIRTUAL TABLE IF NOT EXISTS search_index USING fts5(
        words, content='search_documents', content_rowid='number', tokenize='unicode61 remove_diacritics 0', detail=none
    )
    """,
    """
    CREATE TRIGGER IF NOT EXISTS search_index_insert AFTER INSERT ON search_documents BEGIN
        INSERT INTO search_index(rowid, words) VALUES (new.number, new.words);
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS search_index_delete AFTER DELETE ON search_documents BEGIN
        INSERT INTO search_index(search_index, rowid, words) VALUES ('delete', old.number, old.words);
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS search_index_update AFTER UPDATE OF number, words ON search_documents BEGIN
        INSERT INTO search_index(search_index, rowid, words) VALUES ('delete', old.number, old.words);
        INSERT INTO search_index(rowid, words) VALUES (new.number, new.words);
    END
    """,
)
_POSTGRESQL = (
    "CREATE INDEX IF NOT EXISTS search_index ON search_documents USING gin (to_tsvector('simple'::regconfig, words))",
)
# Undone in this order, before the table goes.
_SQLITE_UNDO = (
    "DROP TRIGGER IF EXISTS search_index_insert",
    "DROP TRIGGER IF EXISTS search_index_delete",
    "DROP TRIGGER IF EXISTS search_index_update",
    "DROP TABLE IF EXISTS search_index",
)
_POSTGRESQL_UNDO = ("DROP INDEX IF EXISTS search_index",)


def install_search(connection: Connection) -> None:
    """Create the index over search_documents: FTS5 on SQLite, GIN over a tsvector on PostgreSQL."""
    for statement in _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL:
        connection.exec_driver_sql(statement)


def remove_search(connection: Connection) -> None:
    """Undo `install_search`; before search_documents itself is dropped."""
    for statement in _SQLITE_UNDO if connection.dialect.name == "sqlite" else _POSTGRESQL_UNDO:
        connection.exec_driver_sql(statement)


@event.listens_for(metadata.tables["search_documents"], "after_create")
def _after_create(target: Table, connection: Connection, **_: Any) -> None:
    install_search(connection)


@event.listens_for(metadata.tables["search_documents"], "before_drop")
def _before_drop(target: Table, connection: Connection, **_: Any) -> None:
    remove_search(connection)
