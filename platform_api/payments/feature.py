"""Payments as a feature. Its tables name orders, never people: what is kept of a person is kept with the orders."""

from typing import Any

from sqlmodel import Session, col, select

from platform_api.features import Feature
from platform_api.orders.tables import Order
from platform_api.payments import earnings
from platform_api.payments.routes import payments
from platform_api.payments.settling import refunds_of


def export_money(session: Session, user_id: str) -> dict[str, Any]:
    """Refunds of a person's orders, and a creator's own account: its id is all that leads to it after an erasure."""
    orders = session.exec(select(Order.id).where(col(Order.user_id) == user_id).order_by(col(Order.id))).all()
    return {
        "refunds": [refund.model_dump(mode="json") for order in orders for refund in refunds_of(session, order)],
        "creator_account": earnings.shown(session, user_id).model_dump(mode="json"),
    }


PAYMENTS = Feature(name="payments", routers=(payments,), export=export_money)
