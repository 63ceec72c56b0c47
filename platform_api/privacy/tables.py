"""Releases. Nothing in this table names a person, and nothing in it is ever changed."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, Text
from sqlmodel import Field, SQLModel

from platform_api.append_only import append_only, table_of
from platform_api.columns import UtcDateTime


class PrivacyRelease(SQLModel, table=True):
    """One signed privacy statement, as a publisher made it. mechanisms: JSON, as in the statement.

    refused: whether the gate refused the model; what it was made from had left the clients all the same.
    """

    __tablename__ = "privacy_releases"

    number: int | None = Field(default=None, primary_key=True)
    version_id: str = Field(foreign_key="model_versions.id", unique=True)
    model: str = Field(max_length=64, index=True)
    model_version: int = Field(sa_column=Column(BigInteger, nullable=False))
    refused: bool
    recipe: str = Field(max_length=64)
    plan_digest: str = Field(max_length=64)
    released_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    recorded_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    epsilon: float
    delta: float
    against: str = Field(sa_column=Column(Text, nullable=False))
    scope: str = Field(sa_column=Column(Text, nullable=False))
    unit: str = Field(sa_column=Column(Text, nullable=False))
    adjacency: str = Field(sa_column=Column(Text, nullable=False))
    tuned_on_data: bool
    mechanisms: str = Field(sa_column=Column(Text, nullable=False))


append_only(table_of(PrivacyRelease))
