"""Reading orders."""

from datetime import datetime

from sqlalchemy import and_, or_
from sqlmodel import Session, col, select

from platform_api.orders.rules import OPEN, PAID
from platform_api.orders.tables import Order, OrderLine


def order_of(session: Session, order_id: str, user_id: str) -> Order | None:
    """The order if it is this person's."""
    order = session.get(Order, order_id)
    return order if order is not None and order.user_id == user_id else None


def locked_order(session: Session, order_id: str) -> Order | None:
    """The order as it is now, for changing: whoever else wants to change it waits."""
    wanted = select(Order).where(col(Order.id) == order_id).with_for_update()
    return session.exec(wanted.execution_options(populate_existing=True)).one_or_none()


def lines_of(session: Session, order_id: str) -> list[OrderLine]:
    wanted = select(OrderLine).where(col(OrderLine.order_id) == order_id).order_by(col(OrderLine.position))
    return list(session.exec(wanted).all())


def orders_before(session: Session, user_id: str, before: tuple[datetime, str] | None, limit: int) -> list[Order]:
    """A person's orders, the latest first, from behind the given (created_at, id) on."""
    wanted = select(Order).where(col(Order.user_id) == user_id)
    if before is not None:
        at, order_id = before
        wanted = wanted.where(
            or_(col(Order.created_at) < at, and_(col(Order.created_at) == at, col(Order.id) < order_id))
        )
    return list(session.exec(wanted.order_by(col(Order.created_at).desc(), col(Order.id).desc()).limit(limit)).all())


def sales_after(session: Session, tenant_id: str, after: str | None, limit: int) -> list[tuple[OrderLine, Order]]:
    """Paid lines of one seller, by id, with their orders."""
    wanted = (
        select(OrderLine, Order)
        .join(Order, col(Order.id) == col(OrderLine.order_id))
        .where(col(OrderLine.seller_tenant_id) == tenant_id, col(Order.status).in_(PAID))
    )
    if after is not None:
        wanted = wanted.where(col(OrderLine.id) > after)
    return [(line, order) for line, order in session.exec(wanted.order_by(col(OrderLine.id)).limit(limit)).all()]


def overdue_orders(session: Session, now: datetime, after: str, limit: int) -> list[str]:
    """Open orders whose time to be paid is over, by id, from behind the given one on."""
    wanted = select(Order.id).where(col(Order.status).in_(OPEN), col(Order.expires_at) <= now, col(Order.id) > after)
    return list(session.exec(wanted.order_by(col(Order.id)).limit(limit)).all())
