"""Orders and the provider together: placing, completing, cancelling. No transaction is open while it is asked."""

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from platform_api.database import Database
from platform_api.idempotency import Steps
from platform_api.orders import service
from platform_api.orders.queries import locked_order, order_of
from platform_api.orders.rules import OPEN
from platform_api.orders.schemas import NewOrder, OrderEntry
from platform_api.orders.shelf import Shelf
from platform_api.orders.tables import Order
from platform_api.payments import settling
from platform_api.payments.provider import Money, PaymentProvider, ProviderIntent
from platform_api.problems import Problem


@dataclass(frozen=True, kw_only=True)
class Till:
    """What taking money needs."""

    database: Database
    provider: PaymentProvider
    shelf: Shelf
    terms: service.Terms

    def placing(self, user_id: str, wish: NewOrder, now: datetime) -> Steps[ProviderIntent | None]:
        """An order as steps of one idempotent request. A crash after the first leaves it open, without payment."""

        def begin(session: Session) -> str:
            order = service.place(session, self.shelf, user_id, wish, self.terms, now)
            if order.total_minor == 0:
                settling.pay_free(session, order, now)
            return order.id

        def finish(session: Session, order_id: str, intent: ProviderIntent | None) -> tuple[int, OrderEntry]:
            order = _locked(session, order_id)
            if intent is not None:
                settling.adopt_intent(session, self.shelf, order, intent, now)
            return 201, service.shown(session, order)

        return Steps(begin=begin, outside=self.intent_for, finish=finish)

    def intent_for(self, order_id: str) -> ProviderIntent | None:
        """The provider's payment for an order, opened where there is none; None for one that costs nothing."""
        with self.database.reading() as session:
            order = session.get_one(Order, order_id)
        if order.total_minor == 0:
            return None
        if order.intent_id is not None:
            return self.provider.intent(order.intent_id)
        amount = Money(minor=order.total_minor, currency=order.currency)
        # The order's id is the key: asked again after a lost answer, the provider gives the same payment.
        return self.provider.create_intent(order_id=order.id, amount=amount, key=f"order-{order.id}")

    def complete(self, user_id: str, order_id: str, now: datetime) -> OrderEntry:
        """Ask the provider how an open order stands. Raises Problem (404, 409, 503)."""
        order = self._own(user_id, order_id)
        return self._heard(order, self.intent_for(order.id) if order.status in OPEN else None, now)

    def cancel(self, user_id: str, order_id: str, now: datetime) -> OrderEntry:
        """Cancel an open order. Raises Problem: 404, 503, and 409 when it turns out to be paid."""
        order = self._own(user_id, order_id)
        entry = self._heard(order, self.cancelled_intent(order.id) if order.status in OPEN else None, now)
        if entry.status not in ("cancelled", "expired"):
            raise Problem("conflict", f"the order is {entry.status}")
        return entry

    def cancelled_intent(self, order_id: str) -> ProviderIntent | None:
        """The payment of an order after it was asked to be cancelled: it may have succeeded before."""
        # One whose id was lost is asked for first: it may exist at the provider, and must not be paid later.
        intent = self.intent_for(order_id)
        return None if intent is None else self.provider.cancel_intent(intent.id)

    def hear(self, order_id: str, intent: ProviderIntent, now: datetime) -> bool:
        """Apply a statement that the provider gave to our own question; whether it changed the order."""
        with self.database.writing() as session:
            return settling.adopt_intent(session, self.shelf, _locked(session, order_id), intent, now)

    def _heard(self, order: Order, intent: ProviderIntent | None, now: datetime) -> OrderEntry:
        if intent is not None:
            self.hear(order.id, intent, now)
        with self.database.reading() as session:
            return service.shown(session, session.get_one(Order, order.id))

    def _own(self, user_id: str, order_id: str) -> Order:
        with self.database.reading() as session:
            order = order_of(session, order_id, user_id)
        if order is None:
            raise Problem("not-found", "no such order")
        return order


def _locked(session: Session, order_id: str) -> Order:
    order = locked_order(session, order_id)
    assert order is not None, "orders are never deleted"
    return order
