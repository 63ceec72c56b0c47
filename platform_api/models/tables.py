"""Trusted publishers, versions of models, which is live, and everything that ever happened to them."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, ForeignKey, String, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from platform_api.append_only import append_only, table_of
from platform_api.columns import UtcDateTime


class ModelPublisher(SQLModel, table=True):
    """An aggregation server whose signature is trusted: its Ed25519 public key, 64 hex digits."""

    __tablename__ = "model_publishers"

    id: str = Field(primary_key=True)
    name: str = Field(max_length=100)
    public_key: str = Field(unique=True, max_length=64)
    registered_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    revoked_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))


class ModelVersion(SQLModel, table=True):
    """One signed artifact. state: candidate, shadow, live, retired (was live) or refused.

    The digests name the files. reasons: JSON list of why it was refused. evaluation: JSON of the signed report, or "".
    """

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: str = Field(primary_key=True)
    name: str = Field(max_length=64, index=True)
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    state: str = Field(max_length=16)
    publisher_id: str = Field(foreign_key="model_publishers.id", index=True)
    manifest_sha256: str = Field(max_length=64)
    model_sha256: str = Field(max_length=64)
    model_bytes: int
    catalogue_digest: str = Field(max_length=64)
    recipe: str = Field(max_length=64)
    evaluation: str = Field(default="", sa_column=Column(Text, nullable=False))
    reasons: str = Field(default="[]", sa_column=Column(Text, nullable=False))
    posted_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class ModelPointer(SQLModel, table=True):
    """Which version of a name is live, and which one runs beside it in the shadow."""

    __tablename__ = "model_pointers"

    name: str = Field(primary_key=True, max_length=64)
    live_id: str | None = Field(default=None, foreign_key="model_versions.id")
    shadow_id: str | None = Field(default=None, foreign_key="model_versions.id")


class ModelEvent(SQLModel, table=True):
    """What happened: posted, refused, shadowed, promoted or rolled-back. previous_id: the version that was live before.

    user_id: the operator who did it, None for a program (client_id) or somebody who was erased since.
    """

    __tablename__ = "model_events"

    number: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=64, index=True)
    version_id: str = Field(foreign_key="model_versions.id", index=True)
    previous_id: str | None = Field(default=None, foreign_key="model_versions.id")
    kind: str = Field(max_length=16)
    at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    client_id: str | None = Field(default=None, max_length=64)
    user_id: str | None = Field(default=None, sa_column=Column(String, ForeignKey("users.id"), index=True))


append_only(table_of(ModelEvent), except_columns=("user_id",))
