"""Accounts, log-ins and machine clients."""

from datetime import datetime

from sqlalchemy import Column, ForeignKey, String
from sqlmodel import Field, SQLModel

from platform_api.columns import UtcDateTime


class Tenant(SQLModel, table=True):
    """A partner institution or marketplace."""

    __tablename__ = "tenants"

    id: str = Field(primary_key=True)
    name: str = Field(unique=True, max_length=200)
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class User(SQLModel, table=True):
    """A person. email is stored in lower case; none, with password_hash "", once erased."""

    __tablename__ = "users"

    id: str = Field(primary_key=True)
    email: str | None = Field(default=None, unique=True, max_length=254)
    display_name: str = Field(default="", max_length=100)
    language: str = Field(default="zh-CN", max_length=16)
    password_hash: str = ""
    tenant_id: str | None = Field(default=None, foreign_key="tenants.id", index=True)
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    erased_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))


class UserRole(SQLModel, table=True):
    """One role of one person."""

    __tablename__ = "user_roles"

    user_id: str = Field(sa_column=Column(String, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True))
    role: str = Field(primary_key=True, max_length=32)


class LoginFamily(SQLModel, table=True):
    """One log-in and every refresh token that descends from it; ended when one of them is used twice."""

    __tablename__ = "login_families"

    id: str = Field(primary_key=True)
    user_id: str = Field(sa_column=Column(String, ForeignKey("users.id", ondelete="CASCADE"), index=True))
    started_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    ended_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True, index=True))


class RefreshToken(SQLModel, table=True):
    """A refresh token by its SHA-256: the token itself is kept nowhere."""

    __tablename__ = "refresh_tokens"

    digest: str = Field(primary_key=True)
    family_id: str = Field(sa_column=Column(String, ForeignKey("login_families.id", ondelete="CASCADE"), index=True))
    expires_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False, index=True))
    used_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))


class MachineClient(SQLModel, table=True):
    """A tenant's or researcher's program. scopes: separated by blanks. secret_hash: argon2id."""

    __tablename__ = "machine_clients"

    id: str = Field(primary_key=True)
    name: str = Field(max_length=200)
    role: str = Field(max_length=32)
    tenant_id: str | None = Field(default=None, foreign_key="tenants.id", index=True)
    scopes: str
    secret_hash: str
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    revoked_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))
