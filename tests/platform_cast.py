"""A service on a fresh database, and the people in it, for tests of the platform."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from httpx2 import Response
from pwdlib import PasswordHash
from pydantic import SecretStr
from sqlmodel import SQLModel

from platform_api import schema
from platform_api.access import Scope
from platform_api.accounts import service as accounts
from platform_api.accounts.schemas import NewClient, Registration
from platform_api.app import create_app
from platform_api.database import Database
from platform_api.settings import Settings
from platform_api.tokens import Claims, issue

API = "/api/v1"
PASSWORD = "a long enough password"


@dataclass
class Hand:
    """A clock that stands where it is put."""

    now: datetime = datetime(2030, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **amount: float) -> None:
        self.now += timedelta(**amount)


@dataclass
class Person:
    """Somebody who is logged in."""

    http: TestClient
    id: str
    email: str
    token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def get(self, path: str, **more: Any) -> Response:
        return self.http.get(API + path, headers={**self.headers, **more.pop("headers", {})}, **more)

    def send(self, method: str, path: str, body: Any = None, *, key: str | None = None, **headers: str) -> Response:
        sent = {**self.headers, **({"Idempotency-Key": key} if key else {}), **headers}
        return self.http.request(method, API + path, json=body, headers=sent)

    def post(self, path: str, body: Any = None, **more: Any) -> Response:
        return self.send("POST", path, body, **more)


@cache
def _hash_of(hasher: PasswordHash, password: str) -> str:
    """What is kept of a password that many have: slow to work out, on purpose."""
    return hasher.hash(password)


@dataclass
class Shop:
    """The service, its clock, and ways to come in."""

    http: TestClient
    clock: Hand
    settings: Settings
    _count: int = field(default=0)

    def register(self, email: str | None = None, *roles: str, tenant_id: str | None = None) -> Person:
        """A new person who is logged in, with roles given straight in the database.

        By what the routes call, but past the routes: that these work is for the tests of accounts to show, and a
        thousand people who come in by them take minutes.
        """
        self._count += 1
        email = email or f"person{self._count}@example.org"
        wish = Registration(email=email, password=PASSWORD, display_name="梅", language="zh-CN")
        kept, now = _hash_of(accounts.HASHER, PASSWORD), self.clock()
        with self.app.state.database.writing() as session:
            user = accounts.register(session, wish, now, kept)
            if roles:
                accounts.set_roles(session, user.id, frozenset(roles), tenant_id)  # type: ignore[arg-type]
            session.flush()
            found = accounts.log_in(session, email, kept, None, now, self.settings.refresh_token_days)
        claims = Claims(subject=user.id, scopes=found.scopes, family=found.family_id)  # type: ignore[arg-type]
        return Person(self.http, user.id, email, issue(self.settings, claims, now), found.refresh_token)

    def join(self, email: str | None = None, *roles: str, tenant_id: str | None = None) -> Person:
        """What `register` does, by the routes."""
        self._count += 1
        email = email or f"person{self._count}@example.org"
        wish = {"email": email, "password": PASSWORD, "display_name": "梅", "language": "zh-CN"}
        created = self.http.post(f"{API}/accounts", json=wish)
        assert created.status_code == 201, created.text
        identifier = created.json()["id"]
        if roles:
            self.give_roles(identifier, *roles, tenant_id=tenant_id)
        return self.log_in(email, identifier=identifier)

    def log_in(self, email: str, password: str = PASSWORD, *, identifier: str = "") -> Person:
        form = {"grant_type": "password", "username": email, "password": password}
        answer = self.http.post(f"{API}/tokens", data=form)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        if not identifier:
            me = self.http.get(f"{API}/me", headers={"Authorization": f"Bearer {body['access_token']}"})
            identifier = me.json()["id"]
        return Person(self.http, identifier, email, body["access_token"], body["refresh_token"])

    def give_roles(self, user_id: str, *roles: str, tenant_id: str | None = None) -> None:
        with self.app.state.database.writing() as session:
            accounts.set_roles(session, user_id, frozenset(roles), tenant_id)  # type: ignore[arg-type]

    def machine(self, *scopes: Scope, tenant_id: str | None = None) -> Person:
        """A program that is logged in, enrolled and let in as people are by `register`."""
        wish, now = NewClient(name="program", scopes=list(scopes), tenant_id=tenant_id), self.clock()
        with self.app.state.database.writing() as session:
            made = accounts.enrol_client(session, wish, now, _hash_of(accounts.HASHER, "a program's secret"))
        claims = Claims(subject=made.id, scopes=frozenset(scopes), family="")
        return Person(self.http, made.id, "", issue(self.settings, claims, now), "")

    @property
    def app(self) -> Any:
        return self.http.app


def settings_for(database_url: str, folder: Path, **changes: Any) -> Settings:
    return Settings(
        **{
            "database_url": database_url,
            "secret_key": SecretStr("a secret for tests, long enough to be one"),
            "data_folder": folder,
            "webhook_secret": SecretStr("whsec_dGVzdHMgb2YgdGhlIHBsYXRmb3Jt"),
            "logins_a_minute": 10_000,
            "writes_a_minute": 100_000,
            "sweep_seconds": 0,
            "erasure_journal": folder.with_name(f"{folder.name}-erasures.txt"),
            **changes,
        }
    )


def create_tables(database: Database) -> None:
    """What the migrations make, quicker; a test compares the two."""
    SQLModel.metadata.create_all(database.engine)
    schema.stamp(database)


@contextmanager
def opened_shop(settings: Settings, clock: Hand | None = None, **parts: Any) -> Iterator[Shop]:
    """The service with every table on an empty database. parts: those that create_app takes."""
    clock = clock or Hand()
    app = create_app(settings, clock=clock, **parts)
    create_tables(app.state.database)
    with TestClient(app, base_url=settings.public_url, raise_server_exceptions=False) as http:
        yield Shop(http, clock, settings)
