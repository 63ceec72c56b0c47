"""Refunds, and the ledger: journals whose postings sum to zero, which nobody can change afterwards."""

from datetime import datetime

from sqlalchemy import DDL, BigInteger, CheckConstraint, Column, ForeignKey, String, Table, UniqueConstraint, event
from sqlmodel import Field, SQLModel

from platform_api.columns import UtcDateTime


class Refund(SQLModel, table=True):
    """Money given back on one order line; zero for a line that cost nothing.

    requested until the provider has said succeeded or failed.

    provider_key is derived from the id and stays the same for every try: a second key would be a second refund.
    """

    __tablename__ = "refunds"
    __table_args__ = (CheckConstraint("amount_minor >= 0", name="amount_not_negative"),)

    id: str = Field(primary_key=True)
    order_id: str = Field(sa_column=Column(String, ForeignKey("orders.id"), nullable=False, index=True))
    line_id: str = Field(sa_column=Column(String, ForeignKey("order_lines.id"), nullable=False, index=True))
    amount_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    fee_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    currency: str = Field(max_length=3)
    reason: str = Field(max_length=32)
    status: str = Field(max_length=16, index=True)
    provider_key: str = Field(max_length=64, unique=True)
    provider_id: str | None = Field(default=None, max_length=64, unique=True)
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    settled_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))


class Journal(SQLModel, table=True):
    """One thing that happened to money. The pair (kind, subject_id) is unique: it is booked once."""

    __tablename__ = "journals"
    __table_args__ = (UniqueConstraint("kind", "subject_id"),)

    id: str = Field(primary_key=True)
    kind: str = Field(max_length=32)
    subject_id: str = Field(max_length=64)
    order_id: str = Field(max_length=64, index=True)
    posted_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class Posting(SQLModel, table=True):
    """One side of a journal. amount_minor: debit above zero, credit below.

    tenant_id and creator_account_id: whose account it is; both "" for the platform's own.
    """

    __tablename__ = "postings"
    __table_args__ = (
        CheckConstraint("amount_minor <> 0", name="amount_not_zero"),
        CheckConstraint(
            "(account IN ('tenant-revenue', 'tenant-refunds')) = (tenant_id <> '') AND "
            "(account IN ('creator-revenue', 'creator-refunds')) = (creator_account_id <> '')",
            name="account_has_its_owner",
        ),
    )

    journal_id: str = Field(sa_column=Column(String, ForeignKey("journals.id"), primary_key=True))
    position: int = Field(primary_key=True)
    account: str = Field(max_length=32, index=True)
    tenant_id: str = Field(default="", max_length=64)
    creator_account_id: str = Field(default="", max_length=64, index=True)
    amount_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    currency: str = Field(max_length=3)


class WebhookReceipt(SQLModel, table=True):
    """A provider's message that was accepted and did something, by its id."""

    __tablename__ = "webhook_receipts"

    id: str = Field(primary_key=True, max_length=128)
    type: str = Field(max_length=32)
    subject_id: str = Field(max_length=64)
    received_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False, index=True))


def append_only_statements(dialect: str, table: str) -> list[str]:
    """The statements that make a table append-only on SQLite or PostgreSQL; migrations run them too."""
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            for change in ("UPDATE", "DELETE")
        ]
    return [
        f"CREATE OR REPLACE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$",
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()",
    ]


APPEND_ONLY: tuple[type[SQLModel], ...] = (Journal, Posting)


def _statement(text: str) -> DDL:
    return DDL(text.replace("%", "%%"))  # type: ignore[no-untyped-call]


def _guard(table: Table) -> None:
    for dialect in ("sqlite", "postgresql"):
        for statement in append_only_statements(dialect, table.name):
            event.listen(table, "after_create", _statement(statement).execute_if(dialect=dialect))


for _table in APPEND_ONLY:
    _guard(SQLModel.metadata.tables[str(_table.__tablename__)])
