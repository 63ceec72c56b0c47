"""What the provider states, applied to an order or refund: the same from an answer, a webhook or reconciling.

Every function here takes the row locked, checks that order, payment, amount and currency all agree with ours before
anything else, and may be called any number of times with the same statement.
"""

from datetime import datetime
from typing import Final

from sqlmodel import Session, col, select

from platform_api.columns import new_id
from platform_api.orders import entitlements
from platform_api.orders.queries import lines_of
from platform_api.orders.rules import CLOSED, PAID, Contradiction, advance, refunded_status, share_of_fee
from platform_api.orders.shelf import Shelf
from platform_api.orders.tables import Order, OrderLine
from platform_api.payments import ledger
from platform_api.payments.provider import ProviderIntent, ProviderRefund
from platform_api.payments.tables import Refund
from platform_api.problems import Problem

PAID_FOR_NOBODY: Final = "paid_for_nobody"
"""Why money goes back whose payer was erased before it came. The next reconciling asks the provider for it."""


def adopt_intent(session: Session, shelf: Shelf, order: Order, intent: ProviderIntent, now: datetime) -> bool:
    """The provider's own answer to our request for this order's payment: remember it, then apply it."""
    if order.intent_id is None:
        _agree(order, intent)
        order.intent_id, order.pay_url = intent.id, intent.pay_url
        order.revision += 1
        session.flush()
    return apply_intent(session, shelf, order, intent, now)


def apply_intent(session: Session, shelf: Shelf, order: Order, intent: ProviderIntent, now: datetime) -> bool:
    """Whether the order changed. Raises Problem (409) for a statement that does not agree with ours."""
    if order.intent_id != intent.id:
        raise Problem("payment-differs", "the payment is another order's")
    _agree(order, intent)
    try:
        status = advance(order.status, intent.payment, expired=now >= order.expires_at)
    except Contradiction as contradiction:
        raise Problem("payment-differs", str(contradiction)) from None
    if status == order.status:
        return False
    _enter(session, shelf, order, status, now)
    return True


def pay_free(session: Session, order: Order, now: datetime) -> None:
    """An order that costs nothing is paid as it is placed."""
    if order.total_minor != 0:
        raise Problem("payment-differs", "the order costs something")
    order.status, order.paid_at = "paid", now
    entitlements.grant(session, lines_of(session, order.id), now)


def _agree(order: Order, intent: ProviderIntent) -> None:
    if intent.order_id != order.id:
        raise Problem("payment-differs", "the payment is another order's")
    if (intent.amount.minor, intent.amount.currency) != (order.total_minor, order.currency):
        raise Problem("payment-differs", "amount or currency differ")


def _enter(session: Session, shelf: Shelf, order: Order, status: str, now: datetime) -> None:
    order.status = status
    order.revision += 1
    lines = lines_of(session, order.id)
    if status in PAID:
        order.paid_at = now
        ledger.book_sale(session, order, lines, now)
        entitlements.grant(session, lines, now)
        if order.user_id is None:
            # The person was erased while the payment was under way: there is nobody to have what was paid for.
            for line in lines:
                if line.price_minor:
                    open_refund(session, line, line.price_minor, (0, 0), PAID_FOR_NOBODY, now)
    elif status in CLOSED:
        # Slots first, as orders are placed: the shelves are waited for before claims are locked.
        for line in lines:
            if line.slot_id:
                shelf.release_slot(session, line.slot_id, order.id)
        entitlements.withdraw(session, lines)
    session.flush()


def open_refund(
    session: Session, line: OrderLine, amount_minor: int, before: tuple[int, int], reason: str, now: datetime
) -> Refund:
    """A refund that is reserved and booked, before the provider hears of it. The order is locked.

    before: (amount, fee) of the line's refunds so far. The provider's key is that of every try of this refund.
    """
    refund_id = new_id("rfd")
    refund = Refund(
        id=refund_id,
        order_id=line.order_id,
        line_id=line.id,
        amount_minor=amount_minor,
        fee_minor=share_of_fee(line.price_minor, line.fee_minor, before, amount_minor),
        currency=line.currency,
        reason=reason,
        status="requested",
        provider_key=f"refund-{refund_id}",
        created_at=now,
    )
    session.add(refund)
    session.flush()
    ledger.book_refund_requested(session, refund, line, now)
    return refund


def take_back_free(session: Session, shelf: Shelf, order: Order, line: OrderLine, reason: str, now: datetime) -> Refund:
    """A line that cost nothing is given back at once: a refund of zero, of which no money is booked or moved.

    The order is locked. Its row keeps the line from being given back twice, as that of any refund does.
    """
    refund_id = new_id("rfd")
    refund = Refund(
        id=refund_id,
        order_id=line.order_id,
        line_id=line.id,
        amount_minor=0,
        fee_minor=0,
        currency=line.currency,
        reason=reason,
        status="succeeded",
        provider_key=f"refund-{refund_id}",
        created_at=now,
        settled_at=now,
    )
    session.add(refund)
    session.flush()
    _give_up(session, shelf, order, refund)
    session.flush()
    return refund


def apply_refund(
    session: Session, shelf: Shelf, order: Order, refund: Refund, seen: ProviderRefund, now: datetime
) -> bool:
    """Whether the refund changed. The order is locked. Raises Problem (409) for a statement that does not agree."""
    if seen.refund_id != refund.id or seen.intent_id != order.intent_id:
        raise Problem("payment-differs", "the refund is another payment's")
    if (seen.amount.minor, seen.amount.currency) != (refund.amount_minor, refund.currency):
        raise Problem("payment-differs", "amount or currency differ")
    if refund.provider_id not in (None, seen.id):
        raise Problem("payment-differs", "the refund was made under another id")
    refund.provider_id = seen.id
    if seen.status == "pending" or seen.status == refund.status:
        return False
    if refund.status != "requested":
        raise Problem("payment-differs", f"the refund had {refund.status} before")
    if seen.status == "failed":
        return fail_refund(session, refund, now)
    refund.status, refund.settled_at = "succeeded", now
    ledger.book_refund_settled(session, refund, now)
    _give_up(session, shelf, order, refund)
    session.flush()
    return True


def fail_refund(session: Session, refund: Refund, now: datetime) -> bool:
    """The provider said definitely no: the amount may be asked for again. Whether the refund changed."""
    if refund.status != "requested":
        return False
    refund.status, refund.settled_at = "failed", now
    ledger.book_refund_failed(session, refund, session.get_one(OrderLine, refund.line_id), now)
    session.flush()
    return True


def _give_up(session: Session, shelf: Shelf, order: Order, refund: Refund) -> None:
    succeeded = [entry for entry in refunds_of(session, order.id) if entry.status == "succeeded"]
    if order.total_minor == 0:
        every = {line.id for line in lines_of(session, order.id)} <= {entry.line_id for entry in succeeded}
        order.status = "refunded" if every else "partly_refunded"
    else:
        order.status = refunded_status(order.total_minor, sum(entry.amount_minor for entry in succeeded))
    order.revision += 1
    line = session.get_one(OrderLine, refund.line_id)
    if sum(entry.amount_minor for entry in succeeded if entry.line_id == line.id) >= line.price_minor:
        if line.slot_id:
            shelf.release_slot(session, line.slot_id, order.id)
        entitlements.withdraw(session, [line])


def refunds_of(session: Session, order_id: str) -> list[Refund]:
    """An order's refunds, the oldest first."""
    wanted = select(Refund).where(col(Refund.order_id) == order_id).order_by(col(Refund.created_at), col(Refund.id))
    return list(session.exec(wanted).all())
