"""Routes of payments: refunds, the provider's messages, the ledger, reconciling."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from platform_api.access import ANY_PERSON, OPERATORS, PUBLIC, KnownCaller, Rule, access
from platform_api.clock import Now
from platform_api.cursors import Page, Paging
from platform_api.database import ReadSession, WriteSession
from platform_api.idempotency import OnceOnly
from platform_api.orders.routes import OrderId
from platform_api.orders.shelf import TheShelf
from platform_api.orders.till import TheTill
from platform_api.payments import earnings, ledger, refunds, webhooks
from platform_api.payments.reconcile import reconcile
from platform_api.payments.schemas import (
    BalanceEntry,
    CreatorAccountEntry,
    FindingEntry,
    NewReconciliation,
    NewRefund,
    ReconciliationEntry,
    RefundEntry,
    Refunds,
)
from platform_api.payments.signatures import verified

payments = APIRouter(tags=["payments"])
CREATORS = Rule(roles=("creator",), people_only=True)
REFUNDERS = Rule(roles=("platform-operator", "tenant-operator"), people_only=True)


@dataclass(frozen=True, kw_only=True)
class SignedMessage:
    """A message whose signature holds."""

    id: str
    body: bytes


async def _signed(request: Request, now: Now) -> SignedMessage:
    secrets = request.app.state.settings.webhook_secret.get_secret_value()
    body = await request.body()
    return SignedMessage(id=verified(secrets, request.headers, body, now), body=body)


# Stands before the session in a route: nobody without the secret makes the database do anything.
Signed = Annotated[SignedMessage, Depends(_signed)]


@payments.post("/orders/{order_id}/refunds", status_code=201, response_model=RefundEntry, **access(REFUNDERS))
def refund_line(
    order_id: OrderId, wish: NewRefund, caller: KnownCaller, once: OnceOnly, till: TheTill, now: Now
) -> Response:
    """Give back a line or a part of it; 409 beyond what is left. Needs an Idempotency-Key.

    A line that cost nothing is given back as a whole, without amount_minor: the buyer may no longer use it.
    """
    return once.run_steps(refunds.refunding(till, caller, order_id, wish, now))


@payments.get("/orders/{order_id}/refunds", **access(ANY_PERSON))
def refunds_of_order(order_id: OrderId, caller: KnownCaller, session: ReadSession) -> Refunds:
    """An order's refunds: to its buyer all of them, to a seller those of its lines."""
    found = refunds.refunds_seen_by(session, caller, order_id)
    return Refunds(items=[refunds.shown(refund) for refund in found])


@payments.post("/webhooks/payments", status_code=204, **access(PUBLIC))
def payment_message(message: Signed, session: WriteSession, shelf: TheShelf, now: Now) -> None:
    """For the payment provider: what became of a payment or refund, signed by Standard Webhooks."""
    webhooks.apply_event(session, shelf, message.id, webhooks.read(message.body), now)


@payments.get("/ledger/balances", **access(OPERATORS))
def ledger_balances(response: Response, paging: Paging, session: ReadSession) -> Page[BalanceEntry]:
    """Every account of the double-entry ledger: together they are zero in each currency."""
    rows = ledger.balances(session, paging.after, paging.limit + 1)
    return paging.page(response, rows, ledger.place, lambda row: BalanceEntry(**vars(row)))


@payments.get("/me/creator-account", **access(CREATORS))
def my_creator_account(caller: KnownCaller, session: ReadSession) -> CreatorAccountEntry:
    """What the caller is owed for products made without a tenant; a tenant's sales are the tenant's."""
    return earnings.shown(session, caller.id)


@payments.post("/reconciliations", **access(OPERATORS))
def reconcile_now(wish: NewReconciliation, till: TheTill, now: Now) -> ReconciliationEntry:
    """Bring the provider's books and ours together; corrects what was missed and flags what contradicts."""
    report = reconcile(till, now, wish.since)
    return ReconciliationEntry(
        intents_seen=report.intents_seen,
        refunds_seen=report.refunds_seen,
        clean=report.clean,
        findings=[FindingEntry(**vars(finding)) for finding in report.findings],
    )
