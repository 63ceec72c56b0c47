"""Placing orders at the prices of the moment, and what is kept of them when a person goes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, col, delete, select

from platform_api.columns import new_id
from platform_api.idempotency import forget_requests_of
from platform_api.orders import entitlements, sellers
from platform_api.orders.queries import lines_of
from platform_api.orders.rules import OPEN
from platform_api.orders.schemas import LineEntry, NewOrder, OrderEntry, WishedLine
from platform_api.orders.shelf import Sellable, Shelf
from platform_api.orders.tables import Entitlement, Order, OrderLine
from platform_api.problems import Problem


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How long an order waits to be paid, and the platform's part of each price in hundredths of a percent."""

    minutes: int
    fee_basis_points: int


def place(session: Session, shelf: Shelf, user_id: str, wish: NewOrder, terms: Terms, now: datetime) -> Order:
    """An open order that holds its slots and claims. Raises Problem: 404, 409 or 422, by what is wrong with a line."""
    # By id, so that two orders for the same things wait for each other instead of both.
    wanted = sorted(wish.lines, key=lambda line: (line.product_id, line.slot_id or ""))
    products = [shelf.sellable(session, line.product_id) for line in wanted]
    currencies = {product.currency for product in products}
    if len(currencies) != 1:
        raise Problem("invalid", "an order is in one currency; order these one by one")
    order = Order(
        id=new_id("ord"),
        user_id=user_id,
        status="pending",
        total_minor=sum(product.price_minor for product in products),
        currency=currencies.pop(),
        created_at=now,
        expires_at=now + timedelta(minutes=terms.minutes),
    )
    session.add(order)
    session.flush()
    # Before any slot: an account that is opened here makes others wait, and must not do so with the shelves held.
    accounts = sellers.accounts_of(session, products, now)
    # Slots first: the shelves are waited for before claims are locked, here and where an order closes.
    lines = [
        _add_line(session, shelf, order, position, line, product, accounts, terms, now)
        for position, (line, product) in enumerate(zip(wanted, products, strict=True))
    ]
    for line in lines:
        entitlements.reserve(session, user_id, line)
    return order


def _add_line(
    session: Session,
    shelf: Shelf,
    order: Order,
    position: int,
    wish: WishedLine,
    product: Sellable,
    accounts: Mapping[str, str],
    terms: Terms,
    now: datetime,
) -> OrderLine:
    if product.by_slot != (wish.slot_id is not None):
        raise Problem("invalid", f"{product.product_id}: consulting needs a slot_id, nothing else takes one")
    line = OrderLine(
        id=new_id("lin"),
        order_id=order.id,
        position=position,
        product_id=product.product_id,
        version=product.version,
        kind=product.kind,
        title=product.title,
        slot_id=wish.slot_id or "",
        price_minor=product.price_minor,
        fee_minor=product.price_minor * terms.fee_basis_points // 10_000,
        currency=product.currency,
        seller_tenant_id=product.seller_tenant_id,
        creator_account_id="" if product.seller_tenant_id else accounts[product.creator_user_id],
    )
    session.add(line)
    session.flush()
    if wish.slot_id is not None and shelf.hold_slot(session, wish.slot_id, order.id, now) != product.product_id:
        raise Problem("invalid", f"the slot is none of {product.product_id}")
    return line


def shown(session: Session, order: Order) -> OrderEntry:
    """An order as its owner sees it."""
    return OrderEntry(
        **order.model_dump(exclude={"user_id", "revision", "pay_url"}),
        pay_url=order.pay_url or None if order.status in OPEN else None,
        lines=[LineEntry.model_validate(line, from_attributes=True) for line in lines_of(session, order.id)],
    )


def export_orders(session: Session, user_id: str) -> dict[str, Any]:
    """A person's orders and claims."""
    orders = session.exec(select(Order).where(col(Order.user_id) == user_id).order_by(col(Order.created_at))).all()
    claims = session.exec(select(Entitlement).where(col(Entitlement.user_id) == user_id)).all()
    return {
        "orders": [
            {
                **order.model_dump(mode="json"),
                # What the platform keeps of a sale, and for whom, is the seller's affair.
                "lines": [
                    line.model_dump(mode="json", exclude={"creator_account_id", "fee_minor"})
                    for line in lines_of(session, order.id)
                ],
            }
            for order in orders
        ],
        "entitlements": [claim.model_dump(mode="json") for claim in claims],
    }


def erase_orders(session: Session, user_id: str, now: datetime) -> None:
    """Orders and a seller's account stay, as books must, and are nobody's; claims and saved answers go.

    An order that was still open is overdue from now on, so that the next reconciling cancels its payment.
    One that is paid before that is refunded.
    """
    own = select(Order).where(col(Order.user_id) == user_id).order_by(col(Order.id))
    orders = session.exec(own.with_for_update().execution_options(populate_existing=True)).all()
    session.exec(delete(Entitlement).where(col(Entitlement.user_id) == user_id))
    for order in orders:
        order.user_id = None
        if order.status in OPEN:
            order.expires_at = min(order.expires_at, now)
    sellers.disown(session, user_id)
    forget_requests_of(session, user_id)
