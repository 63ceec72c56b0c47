"""Routes of accounts: registration, tokens, the own profile; enrolment by platform operators."""

from typing import Annotated, Any, cast

from fastapi import APIRouter, Form, Path, Request, Response
from sqlmodel import Session

from platform_api.access import ANY_PERSON, OPERATORS, PUBLIC, KnownCaller, Role, access
from platform_api.accounts import queries, service
from platform_api.accounts.schemas import (
    ClientCredentials,
    ClientEntry,
    NewClient,
    NewTenant,
    PasswordChange,
    Profile,
    ProfileChange,
    Registration,
    Roles,
    TenantEntry,
    Tokens,
)
from platform_api.accounts.tables import MachineClient, User
from platform_api.clock import Now
from platform_api.cursors import Page, Paging
from platform_api.database import Hashing, ReadSession, Turn, WriteSession, hold_caller
from platform_api.problems import Problem
from platform_api.rates import Attempt
from platform_api.tokens import Claims, issue

accounts = APIRouter(tags=["accounts"])
Identifier = Annotated[str, Path(max_length=64)]
Secret = Annotated[str | None, Form(max_length=512)]


@accounts.post("/accounts", status_code=201, **access(PUBLIC))
def register(request: Request, wish: Registration, attempt: Attempt, hashing: Hashing, now: Now) -> Profile:
    """Open an account as a learner."""
    password_hash = service.hash_of(wish.password)
    with request.app.state.database.writing() as session:
        return _profile(session, service.register(session, wish, now, password_hash))


@accounts.post("/tokens", **access(PUBLIC))
def tokens(
    request: Request,
    response: Response,
    attempt: Attempt,
    hashing: Hashing,
    now: Now,
    grant_type: Annotated[str, Form(pattern="^(password|refresh_token|client_credentials)$")],
    username: Secret = None,
    password: Secret = None,
    refresh_token: Secret = None,
    client_id: Secret = None,
    client_secret: Secret = None,
) -> Tokens:
    """OAuth 2: password and refresh_token for people, client_credentials for machines (RFC 6749, sec. 4.3, 4.4, 6).

    A refresh token is good once. Used twice, it ends the whole log-in that it stems from.
    """
    response.headers["Cache-Control"] = "no-store"
    settings, database = request.app.state.settings, request.app.state.database
    if grant_type == "client_credentials":
        with database.reading() as session:
            kept = session.get(MachineClient, client_id or "")
        client = service.open_client(kept, client_secret or "")
        claims = Claims(subject=client.id, scopes=cast("frozenset[str]", service.as_scopes(client.scopes)), family="")
        return _tokens(request, claims, now, None)
    if grant_type == "password":
        email = (username or "").strip().lower()
        with database.reading() as session:
            user = queries.user_by_email(session, email)
        better = service.check(password or "", user.password_hash if user else None)
        with database.writing() as session:
            checked = user.password_hash if user else ""
            found = service.log_in(session, email, checked, better, now, settings.refresh_token_days)
    else:
        with database.writing() as session:
            renewed = service.refresh(session, refresh_token or "", now, settings.refresh_token_days)
        if renewed is None:  # raised after the end of the family was committed
            raise Problem("wrong-credentials", "the refresh token was used before; this log-in has been ended")
        found = renewed
    claims = Claims(subject=found.user.id, scopes=cast("frozenset[str]", found.scopes), family=found.family_id)
    return _tokens(request, claims, now, found.refresh_token)


@accounts.post("/logout", status_code=204, **access(ANY_PERSON))
def log_out(caller: KnownCaller, session: WriteSession, now: Now, everywhere: bool = False) -> None:
    """End this log-in, or all of them: its tokens are refused from now on."""
    service.log_out(session, caller.id, caller.family, now, everywhere=everywhere)


@accounts.get("/me", **access(ANY_PERSON))
def me(caller: KnownCaller, session: ReadSession) -> Profile:
    """The own profile."""
    return _profile(session, session.get_one(User, caller.id))


@accounts.patch("/me", **access(ANY_PERSON))
def change_me(change: ProfileChange, caller: KnownCaller, session: WriteSession) -> Profile:
    """Change the own profile."""
    user = session.get_one(User, caller.id)
    user.display_name = change.display_name or user.display_name
    user.language = change.language or user.language
    return _profile(session, user)


@accounts.put("/me/password", status_code=204, **access(ANY_PERSON))
def change_password(
    request: Request, change: PasswordChange, caller: KnownCaller, attempt: Attempt, hashing: Hashing, now: Now
) -> None:
    """Change the password; ends every log-in."""
    with request.app.state.database.reading() as session:
        checked = session.get_one(User, caller.id).password_hash
    service.check(change.old_password, checked)
    password_hash = service.hash_of(change.new_password)
    with request.app.state.database.writing() as session:
        service.change_password(session, caller.id, checked, password_hash, now)


@accounts.put("/users/{user_id}/roles", **access(OPERATORS))
def set_roles(request: Request, user_id: Identifier, wish: Roles, turn: Turn) -> Profile:
    """Give a person roles; learner always stays, and the tenant unless tenant_id is sent, null to take it away."""
    keep = "tenant_id" not in wish.model_fields_set
    # Not a WriteSession, which holds the caller too: two operators could wait for one another.
    with request.app.state.database.writing() as session:
        user = service.set_roles(session, user_id, frozenset(wish.roles), wish.tenant_id, keep_tenant=keep)
        return _profile(session, user)


@accounts.post("/tenants", status_code=201, **access(OPERATORS))
def add_tenant(wish: NewTenant, session: WriteSession, now: Now) -> TenantEntry:
    """Add a partner."""
    return TenantEntry.model_validate(service.add_tenant(session, wish.name, now), from_attributes=True)


@accounts.get("/tenants", **access(OPERATORS))
def tenants(response: Response, paging: Paging, session: ReadSession) -> Page[TenantEntry]:
    """Partners by id."""
    rows = queries.tenants_after(session, paging.after_id, paging.limit + 1)
    return paging.page(
        response, rows, lambda row: (row.id,), lambda row: TenantEntry.model_validate(row, from_attributes=True)
    )


@accounts.post("/clients", status_code=201, **access(OPERATORS))
def enrol_client(request: Request, wish: NewClient, hashing: Hashing, now: Now) -> ClientCredentials:
    """Enrol a program of a tenant or researcher. The secret is shown once."""
    secret = service.new_secret()
    secret_hash = service.hash_of(secret)
    with request.app.state.database.writing() as session:
        hold_caller(request, session)
        client = service.enrol_client(session, wish, now, secret_hash)
    return ClientCredentials(**_client(client).model_dump(), client_secret=secret)


@accounts.get("/clients", **access(OPERATORS))
def clients(response: Response, paging: Paging, session: ReadSession) -> Page[ClientEntry]:
    """Programs that may log in by themselves, by id."""
    rows = queries.clients_after(session, paging.after_id, paging.limit + 1)
    return paging.page(response, rows, lambda row: (row.id,), _client)


@accounts.delete("/clients/{client_id}", status_code=204, **access(OPERATORS))
def revoke_client(client_id: Identifier, session: WriteSession, now: Now) -> None:
    """Refuse this program from now on, its present tokens included."""
    client = session.get(MachineClient, client_id)
    if client is None:
        raise Problem("not-found", "no such client")
    client.revoked_at = client.revoked_at or now


def _tokens(request: Request, claims: Claims, now: Any, refresh_token: str | None) -> Tokens:
    settings = request.app.state.settings
    return Tokens(
        access_token=issue(settings, claims, now),
        expires_in=settings.access_token_seconds,
        refresh_token=refresh_token,
        scope=" ".join(sorted(claims.scopes)),
    )


def _profile(session: Session, user: User) -> Profile:
    roles = cast("list[Role]", sorted(queries.roles_of(session, user.id)))
    return Profile(**user.model_dump(exclude={"password_hash", "erased_at"}), roles=roles)


def _client(client: MachineClient) -> ClientEntry:
    return ClientEntry(
        **client.model_dump(exclude={"secret_hash", "scopes"}), scopes=sorted(service.as_scopes(client.scopes))
    )
