"""Registering, logging in, refreshing: what may happen to an account. Times are arguments; sessions are the caller's.

Passwords and client secrets are kept as argon2id hashes, refresh tokens as SHA-256 digests of 256 random bits.
"""

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from pwdlib import PasswordHash
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, delete, select, update

from platform_api.access import SCOPES_OF_ROLES, Role, Scope
from platform_api.accounts.queries import roles_of, user_by_email
from platform_api.accounts.schemas import NewClient, Registration
from platform_api.accounts.tables import LoginFamily, MachineClient, RefreshToken, Tenant, User, UserRole
from platform_api.columns import new_id
from platform_api.database import ALIVE
from platform_api.problems import Problem

HASHER = PasswordHash.recommended()


def _of_no_password() -> str:
    salt, digest = (base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19$m=65536,t=3,p=4${salt}${digest}"


# Compared against when there is no account, so that the answer takes as long. Chance in the form and at the cost of
# what HASHER gives, which a test compares: every command would otherwise begin with the work of hashing a password.
NOBODY = _of_no_password()


@dataclass(frozen=True, kw_only=True)
class LoggedIn:
    """What a log-in or refresh gives. refresh_token: the only copy."""

    user: User
    roles: frozenset[Role]
    family_id: str
    refresh_token: str

    @property
    def scopes(self) -> frozenset[Scope]:
        return scopes_of(self.roles)


def scopes_of(roles: frozenset[Role]) -> frozenset[Scope]:
    """Every scope that comes with the roles."""
    return frozenset[Scope]().union(*(SCOPES_OF_ROLES[role] for role in roles))


def hash_of(password: str) -> str:
    """What is kept of a password or secret. Slow on purpose: never within a transaction of a request."""
    return HASHER.hash(password)


def check(password: str, kept: str | None) -> str | None:
    """A better hash of the password, if there is one. Slow on purpose. Raises Problem (401) where it does not fit."""
    fits, better = HASHER.verify_and_update(password, kept or NOBODY)
    if not kept or not fits:
        raise Problem("wrong-credentials", headers={"WWW-Authenticate": "Bearer"})
    return better


def register(session: Session, wish: Registration, now: datetime, password_hash: str) -> User:
    """A new learner. Raises Problem (409) when the address is taken."""
    if user_by_email(session, wish.email) is not None:
        raise _taken()
    user = User(
        id=new_id("usr"),
        email=wish.email,
        display_name=wish.display_name,
        language=wish.language,
        password_hash=password_hash,
        created_at=now,
    )
    try:
        # Two may have looked at once and found nobody: the constraint decides which of them it is.
        with session.begin_nested():
            session.add(user)
    except IntegrityError:
        raise _taken() from None
    session.add(UserRole(user_id=user.id, role="learner"))
    return user


def log_in(
    session: Session, email: str, checked: str, better: str | None, now: datetime, refresh_token_days: int
) -> LoggedIn:
    """A new family of refresh tokens. checked: the hash that the password was found to fit.

    Raises Problem (401) where another one is kept by now, or nobody is there any more.
    """
    user = user_by_email(session, email, held=True)
    if user is None or user.password_hash != checked:
        raise Problem("wrong-credentials", headers={"WWW-Authenticate": "Bearer"})
    if better is not None:
        user.password_hash = better
    family = LoginFamily(id=new_id("fam"), user_id=user.id, started_at=now)
    session.add(family)
    session.flush()
    return _renewed(session, user, family, now, refresh_token_days)


def refresh(session: Session, token: str, now: datetime, refresh_token_days: int) -> LoggedIn | None:
    """The next token of a family. None for a token that was used before: its whole family has been ended.

    The caller commits in either case. Raises Problem (401) for a token that is unknown, expired or of an ended family.
    """
    wanted = select(RefreshToken).where(col(RefreshToken.digest) == _digest(token))
    owner = session.exec(
        select(LoginFamily.user_id).join(RefreshToken).where(col(RefreshToken.digest) == _digest(token))
    ).one_or_none()
    # The person is held first, as erasure does it: what is found after that is still theirs at the end.
    user = None if owner is None else session.get(User, owner, with_for_update=ALIVE)
    row = session.exec(wanted.with_for_update()).one_or_none()
    if user is None or row is None:
        raise Problem("wrong-credentials", "the refresh token is not known")
    family = session.exec(select(LoginFamily).where(col(LoginFamily.id) == row.family_id).with_for_update()).one()
    if row.used_at is not None:
        family.ended_at = family.ended_at or now
        return None
    if family.ended_at is not None or now >= row.expires_at:
        raise Problem("wrong-credentials", "the log-in has ended; log in again")
    row.used_at = now
    return _renewed(session, user, family, now, refresh_token_days)


def log_out(session: Session, user_id: str, family_id: str, now: datetime, *, everywhere: bool) -> None:
    """End this log-in, or all of them. One that a sweep takes away in the same moment has ended too."""
    living = update(LoginFamily).where(col(LoginFamily.user_id) == user_id, col(LoginFamily.ended_at).is_(None))
    wanted = living if everywhere else living.where(col(LoginFamily.id) == family_id)
    session.exec(wanted.values(ended_at=now))


def change_password(session: Session, user_id: str, checked: str, password_hash: str, now: datetime) -> None:
    """Ends every log-in. Raises Problem (401) where another hash than the checked one is kept by now."""
    user = session.get_one(User, user_id, with_for_update=ALIVE)
    if user.password_hash != checked:
        raise Problem("wrong-credentials", "the old password does not fit")
    user.password_hash = password_hash
    log_out(session, user.id, "", now, everywhere=True)


def set_roles(
    session: Session, user_id: str, roles: frozenset[Role], tenant_id: str | None, *, keep_tenant: bool = False
) -> User:
    """Replace a person's roles, and the tenant unless it is kept; one request after the other.

    Raises Problem (404, 422). Without a tenant a reviewer sees every tenant's products: the caller says so, it never
    comes of saying nothing.
    """
    user = session.get(User, user_id, with_for_update=ALIVE)
    if user is None or user.erased_at is not None:
        raise Problem("not-found", "no such person")
    if keep_tenant:
        tenant_id = user.tenant_id
    if "tenant-operator" in roles and tenant_id is None:
        raise Problem("invalid", "a tenant-operator needs a tenant_id")
    if tenant_id is not None and session.get(Tenant, tenant_id) is None:
        raise Problem("invalid", "no such tenant")
    session.exec(delete(UserRole).where(col(UserRole.user_id) == user_id))
    for role in sorted(roles | {"learner"}):
        session.add(UserRole(user_id=user_id, role=role))
    user.tenant_id = tenant_id
    return user


def add_tenant(session: Session, name: str, now: datetime) -> Tenant:
    """A new partner. Raises Problem (409) when the name is taken."""
    tenant = Tenant(id=new_id("tnt"), name=name, created_at=now)
    try:
        with session.begin_nested():
            session.add(tenant)
    except IntegrityError:
        raise Problem("conflict", "a tenant of this name exists") from None
    return tenant


def new_secret() -> str:
    """A client's secret of 256 random bits. What is kept of it is its `hash_of`."""
    return secrets.token_urlsafe(32)


def enrol_client(session: Session, wish: NewClient, now: datetime, secret_hash: str) -> MachineClient:
    """A machine client. Raises Problem (422) for an unknown tenant or unfit scopes."""
    role: Role = "researcher" if wish.tenant_id is None else "tenant-operator"
    if wish.tenant_id is not None and session.get(Tenant, wish.tenant_id) is None:
        raise Problem("invalid", "no such tenant")
    allowed = SCOPES_OF_ROLES[role] | ({"models:publish"} if wish.tenant_id is None else set())
    if not set(wish.scopes) <= allowed:
        raise Problem("invalid", f"a {role} may have the scopes {', '.join(sorted(allowed))}")
    client = MachineClient(
        id=new_id("cli"),
        name=wish.name,
        role=role,
        tenant_id=wish.tenant_id,
        scopes=" ".join(sorted(set(wish.scopes))),
        secret_hash=secret_hash,
        created_at=now,
    )
    session.add(client)
    return client


def open_client(client: MachineClient | None, secret: str) -> MachineClient:
    """The client, if this is its secret. Raises Problem (401)."""
    check(secret, client.secret_hash if client else None)
    if client is None or client.revoked_at is not None:
        raise Problem("wrong-credentials", headers={"WWW-Authenticate": "Bearer"})
    return client


def export_account(session: Session, user_id: str) -> dict[str, Any]:
    """What is kept about a person here."""
    user = session.get_one(User, user_id)
    families = session.exec(select(LoginFamily).where(col(LoginFamily.user_id) == user_id)).all()
    return {
        "profile": user.model_dump(mode="json", exclude={"password_hash"}),
        "roles": sorted(roles_of(session, user_id)),
        "log_ins": [family.model_dump(mode="json") for family in families],
    }


def erase_account(session: Session, user_id: str, now: datetime) -> None:
    """The row stays as a number that orders point at; nothing of the person is left in it."""
    user = session.get_one(User, user_id)
    user.email, user.display_name, user.password_hash, user.tenant_id = None, "", "", None
    user.erased_at = now
    session.exec(delete(UserRole).where(col(UserRole.user_id) == user_id))
    session.exec(delete(LoginFamily).where(col(LoginFamily.user_id) == user_id))


def _renewed(session: Session, user: User, family: LoginFamily, now: datetime, days: int) -> LoggedIn:
    token = secrets.token_urlsafe(32)
    session.add(RefreshToken(digest=_digest(token), family_id=family.id, expires_at=now + timedelta(days=days)))
    return LoggedIn(user=user, roles=roles_of(session, user.id), family_id=family.id, refresh_token=token)


def _taken() -> Problem:
    return Problem("conflict", "an account with this e-mail address exists; log in or use another")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def as_scopes(scopes: str) -> frozenset[Scope]:
    """The scopes of a client as kept."""
    return cast("frozenset[Scope]", frozenset(scopes.split()))
