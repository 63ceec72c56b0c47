"""Policies and receipts of consent. Both are only ever added to."""

from datetime import datetime

from sqlalchemy import Column, Index, Text
from sqlmodel import Field, SQLModel

from platform_api.append_only import append_only, table_of
from platform_api.columns import UtcDateTime


class Policy(SQLModel, table=True):
    """One version of what people are told and agree to, in both languages."""

    __tablename__ = "policies"

    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    text_zh: str = Field(sa_column=Column(Text, nullable=False))
    text_en: str = Field(sa_column=Column(Text, nullable=False))
    published_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class ConsentReceipt(SQLModel, table=True):
    """Somebody gave or withdrew consent for one purpose, under one version of the policy.

    user_id: after erasure a pseudonym that nothing else carries, so that receipts of one person stay together.
    """

    __tablename__ = "consent_receipts"
    __table_args__ = (Index("ix_consent_receipts_user_id_purpose", "user_id", "purpose"),)

    number: int | None = Field(default=None, primary_key=True)
    user_id: str = Field(max_length=64)
    purpose: str = Field(max_length=32)
    given: bool
    policy_version: int = Field(foreign_key="policies.version")
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


append_only(table_of(Policy))
append_only(table_of(ConsentReceipt), except_columns=("user_id",))
