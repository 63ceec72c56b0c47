"""Giving money back: the row is committed before the provider is asked, and every try uses the row's own key."""

from datetime import datetime

from sqlmodel import Session

from platform_api.access import Caller
from platform_api.database import Database
from platform_api.idempotency import Steps
from platform_api.orders.checkout import Till
from platform_api.orders.queries import lines_of, locked_order
from platform_api.orders.rules import PAID
from platform_api.orders.shelf import Shelf
from platform_api.orders.tables import Order, OrderLine
from platform_api.payments.provider import Money, PaymentProvider, ProviderRefund, ProviderRefused
from platform_api.payments.schemas import NewRefund, RefundEntry
from platform_api.payments.settling import apply_refund, fail_refund, open_refund, refunds_of, take_back_free
from platform_api.payments.tables import Refund
from platform_api.problems import Problem


def request_refund(
    session: Session, shelf: Shelf, caller: Caller, order_id: str, wish: NewRefund, now: datetime
) -> Refund:
    """A refund that is reserved and booked, before the provider hears of it; of a line that cost nothing it is done.

    Raises Problem: 404 for an order or line of nobody, or of another seller; 409 beyond what is left of the line.
    """
    order = locked_order(session, order_id)
    line = session.get(OrderLine, wish.line_id)
    if order is None or line is None or line.order_id != order.id or not may_refund(caller, line):
        raise Problem("not-found", "no such order line")
    if order.status not in PAID:
        raise Problem("conflict", f"the order is {order.status}: nothing was paid")
    kept = [entry for entry in refunds_of(session, order.id) if entry.line_id == line.id and entry.status != "failed"]
    before = sum(entry.amount_minor for entry in kept), sum(entry.fee_minor for entry in kept)
    if line.price_minor == 0 and wish.amount_minor is None and not kept:
        return take_back_free(session, shelf, order, line, wish.reason, now)
    rest = line.price_minor - before[0]
    amount = rest if wish.amount_minor is None else wish.amount_minor
    if amount > rest or amount == 0:
        raise Problem("conflict", f"{rest} of the line can still be refunded", rest_minor=rest)
    return open_refund(session, line, amount, before, wish.reason, now)


def may_refund(caller: Caller, line: OrderLine) -> bool:
    """Platform operators may refund every sale, a tenant's operators its own."""
    own = caller.has("tenant-operator") and line.seller_tenant_id != "" and line.seller_tenant_id == caller.tenant_id
    return caller.has("platform-operator") or own


def ask_provider(database: Database, provider: PaymentProvider, refund_id: str) -> ProviderRefund | None:
    """The provider's statement about a committed refund. Raises ProviderUnavailable.

    None for a definite no, and for a refund of nothing, of which it need not hear.
    """
    with database.reading() as session:
        refund = session.get_one(Refund, refund_id)
        order = session.get_one(Order, refund.order_id)
    if refund.amount_minor == 0:
        return None
    assert order.intent_id is not None
    amount = Money(minor=refund.amount_minor, currency=refund.currency)
    try:
        return provider.refund(intent_id=order.intent_id, refund_id=refund.id, amount=amount, key=refund.provider_key)
    except ProviderRefused:
        return None


def settle(
    session: Session, shelf: Shelf, refund_id: str, seen: ProviderRefund | None, now: datetime
) -> tuple[Refund, bool]:
    """The refund after the provider's statement, and whether that changed it."""
    order = locked_order(session, session.get_one(Refund, refund_id).order_id)
    refund = session.get_one(Refund, refund_id, populate_existing=True)
    assert order is not None
    if seen is None:
        return refund, fail_refund(session, refund, now)
    return refund, apply_refund(session, shelf, order, refund, seen, now)


def refunding(
    till: Till, caller: Caller, order_id: str, wish: NewRefund, now: datetime
) -> Steps[ProviderRefund | None]:
    """A refund as steps of one idempotent request. A lost answer leaves it requested, and the next try goes on."""

    def finish(session: Session, refund_id: str, seen: ProviderRefund | None) -> tuple[int, RefundEntry]:
        return 201, shown(settle(session, till.shelf, refund_id, seen, now)[0])

    return Steps(
        begin=lambda session: request_refund(session, till.shelf, caller, order_id, wish, now).id,
        outside=lambda refund_id: ask_provider(till.database, till.provider, refund_id),
        finish=finish,
    )


def refunds_seen_by(session: Session, caller: Caller, order_id: str) -> list[Refund]:
    """An order's refunds that a caller may see: the buyer all, a seller those of its lines. Raises Problem (404)."""
    order = session.get(Order, order_id)
    if order is None:
        raise Problem("not-found", "no such order")
    if order.user_id == caller.id:
        return refunds_of(session, order_id)
    visible = {line.id for line in lines_of(session, order_id) if may_refund(caller, line)}
    if not visible:
        raise Problem("not-found", "no such order")
    return [refund for refund in refunds_of(session, order_id) if refund.line_id in visible]


def shown(refund: Refund) -> RefundEntry:
    return RefundEntry.model_validate(refund, from_attributes=True)
