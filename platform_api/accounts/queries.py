"""Reading accounts."""

from collections.abc import Iterable
from typing import cast

from sqlmodel import Session, col, select

from platform_api.access import Role
from platform_api.accounts.tables import MachineClient, Tenant, User, UserRole
from platform_api.database import ALIVE


def user_by_email(session: Session, email: str, *, held: bool = False) -> User | None:
    """held: locks the row, so that the person is neither changed nor erased before this transaction has ended."""
    wanted = select(User).where(col(User.email) == email)
    return session.exec(wanted.with_for_update(**ALIVE) if held else wanted).one_or_none()


def hold_person(session: Session, user_id: str) -> bool:
    """Whether the person is there; if so they are neither changed nor erased before this transaction has ended.

    To be called before anything else is locked.
    """
    wanted = select(User.id).where(col(User.id) == user_id, col(User.erased_at).is_(None))
    return session.exec(wanted.with_for_update(**ALIVE)).first() is not None


def display_names(session: Session, user_ids: Iterable[str]) -> dict[str, str]:
    """Names that people show, by user; erased ones have none."""
    wanted = select(User.id, User.display_name).where(col(User.id).in_(list(user_ids)), col(User.display_name) != "")
    return dict(session.exec(wanted).all())


def roles_of(session: Session, user_id: str) -> frozenset[Role]:
    found = session.exec(select(UserRole.role).where(col(UserRole.user_id) == user_id)).all()
    return cast("frozenset[Role]", frozenset(found))


def tenant_by_name(session: Session, name: str) -> Tenant | None:
    return session.exec(select(Tenant).where(col(Tenant.name) == name)).one_or_none()


def tenants_after(session: Session, after: str | None, limit: int) -> list[Tenant]:
    wanted = select(Tenant).order_by(col(Tenant.id)).limit(limit)
    return list(session.exec(wanted if after is None else wanted.where(col(Tenant.id) > after)).all())


def clients_after(session: Session, after: str | None, limit: int) -> list[MachineClient]:
    wanted = select(MachineClient).order_by(col(MachineClient.id)).limit(limit)
    return list(session.exec(wanted if after is None else wanted.where(col(MachineClient.id) > after)).all())
