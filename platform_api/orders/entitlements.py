"""Who may use what: claims are reserved with an order, active when it is paid, withdrawn when it closes."""

from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from platform_api.columns import new_id
from platform_api.orders.tables import Entitlement, OrderLine
from platform_api.problems import Problem


def reserve(session: Session, user_id: str, line: OrderLine) -> None:
    """Claim a line's product for an order that is to be paid.

    Raises Problem (409) when it is owned already or another order for it is open: the unique constraint decides
    between orders that come at once, so nobody pays twice for one thing.
    """
    claim = Entitlement(
        id=new_id("ent"),
        user_id=user_id,
        product_id=line.product_id,
        version=line.version,
        slot_id=line.slot_id,
        status="reserved",
        line_id=line.id,
    )
    try:
        with session.begin_nested():
            session.add(claim)
    except IntegrityError:
        _take_withdrawn(session, user_id, line)


def _take_withdrawn(session: Session, user_id: str, line: OrderLine) -> None:
    found = session.exec(
        select(Entitlement)
        .where(
            col(Entitlement.user_id) == user_id,
            col(Entitlement.product_id) == line.product_id,
            col(Entitlement.version) == line.version,
            col(Entitlement.slot_id) == line.slot_id,
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    if found.status == "active":
        raise Problem("conflict", f"{line.product_id} is owned already")
    if found.status == "reserved":
        other = session.get_one(OrderLine, found.line_id).order_id
        raise Problem("conflict", f"order {other} for {line.product_id} is open; complete or cancel it", order_id=other)
    found.status, found.line_id, found.granted_at = "reserved", line.id, None


def grant(session: Session, lines: list[OrderLine], now: datetime) -> None:
    """The lines were paid."""
    for claim in _claims(session, lines):
        claim.status, claim.granted_at = "active", claim.granted_at or now


def withdraw(session: Session, lines: list[OrderLine]) -> None:
    """The lines will not be paid, or were refunded."""
    for claim in _claims(session, lines):
        claim.status = "withdrawn"


def is_entitled(session: Session, user_id: str, product_id: str, version: int | None = None) -> bool:
    """Whether a person may use this version of a product; None: any version."""
    wanted = select(Entitlement.id).where(
        col(Entitlement.user_id) == user_id,
        col(Entitlement.product_id) == product_id,
        col(Entitlement.status) == "active",
    )
    if version is not None:
        wanted = wanted.where(col(Entitlement.version) == version)
    return session.exec(wanted.limit(1)).first() is not None


def active(session: Session, user_id: str) -> list[Entitlement]:
    """Everything that a person may use, by the time it was granted."""
    wanted = select(Entitlement).where(col(Entitlement.user_id) == user_id, col(Entitlement.status) == "active")
    return list(session.exec(wanted.order_by(col(Entitlement.granted_at), col(Entitlement.id))).all())


def entitlements_after(session: Session, user_id: str, after: str | None, limit: int) -> list[Entitlement]:
    """A person's active claims, by id."""
    wanted = select(Entitlement).where(col(Entitlement.user_id) == user_id, col(Entitlement.status) == "active")
    if after is not None:
        wanted = wanted.where(col(Entitlement.id) > after)
    return list(session.exec(wanted.order_by(col(Entitlement.id)).limit(limit)).all())


def _claims(session: Session, lines: list[OrderLine]) -> list[Entitlement]:
    ids = [line.id for line in lines]
    return list(session.exec(select(Entitlement).where(col(Entitlement.line_id).in_(ids))).all())
