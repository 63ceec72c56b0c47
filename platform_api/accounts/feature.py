"""Accounts as a feature, and how a request's caller is known."""

from typing import cast

from fastapi import Request
from sqlmodel import Session

from platform_api.access import Caller, Role
from platform_api.accounts import service
from platform_api.accounts.queries import hold_person, roles_of
from platform_api.accounts.routes import accounts
from platform_api.accounts.tables import LoginFamily, MachineClient, RefreshToken, User, UserRole
from platform_api.features import Feature
from platform_api.problems import Problem
from platform_api.tokens import Claims, verify

ACCOUNTS = Feature(
    name="accounts",
    routers=(accounts,),
    personal_tables=(User, UserRole, LoginFamily, RefreshToken),
    export=service.export_account,
    erase=service.erase_account,
)


def identify(request: Request) -> Caller | None:
    """The caller of a request, None without a token. Raises Problem (401) for a token that is no good any more.

    The account is looked up each time: an ended log-in, a revoked client or a lost role counts at once.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    state = request.app.state
    claims = verify(state.settings, token.strip(), state.clock())
    with state.database.reading() as session:
        if claims.family:
            user, family = session.get(User, claims.subject), session.get(LoginFamily, claims.family)
            if user is None or user.erased_at is not None or family is None or family.ended_at is not None:
                raise _ended()
            roles = roles_of(session, user.id)
            return Caller(
                kind="person",
                id=user.id,
                roles=roles,
                scopes=service.scopes_of(roles),
                tenant_id=user.tenant_id or "",
                family=family.id,
            )
        client = session.get(MachineClient, claims.subject)
        if client is None or client.revoked_at is not None:
            raise _ended()
        return _machine(client, claims)


def hold_caller(session: Session, caller: Caller) -> None:
    """Keep a person who calls from being erased until this transaction has ended. Raises Problem (401)."""
    if caller.kind == "person" and not hold_person(session, caller.id):
        raise _ended()


def _machine(client: MachineClient, claims: Claims) -> Caller:
    return Caller(
        kind="machine",
        id=client.id,
        roles=frozenset({cast("Role", client.role)}),
        scopes=service.as_scopes(client.scopes) & claims.scopes,
        tenant_id=client.tenant_id or "",
    )


def _ended() -> Problem:
    return Problem(
        "not-authenticated", "the log-in has ended", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
    )
