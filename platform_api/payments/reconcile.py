"""Bringing the provider's books and ours together, after crashes, lost answers and lost messages.

What one side merely missed is corrected by the same rules that webhooks go through. Where the two sides contradict
each other (amounts, a payment or refund that the other never heard of, paid against closed) nothing is changed: it is
flagged for a person. Run twice, the second run corrects nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlmodel import col, select

from platform_api.database import Database
from platform_api.orders.checkout import Till
from platform_api.orders.queries import overdue_orders
from platform_api.orders.rules import CLOSED, PAID
from platform_api.orders.tables import Order
from platform_api.payments import ledger, refunds
from platform_api.payments.provider import ProviderIntent, ProviderRefund, ProviderRefused, ProviderUnavailable
from platform_api.payments.settling import PAID_FOR_NOBODY
from platform_api.payments.tables import Refund
from platform_api.problems import Problem

_ORDERS_AT_ONCE = 200
_UNANSWERED_IN_A_ROW = 3
Kind = Literal[
    "paid-there-open-here",  # a payment's message was lost
    "closed-there-open-here",
    "intent-not-noted",  # the answer to our request for a payment was lost
    "overdue",  # an open order whose time is over: its payment was cancelled
    "refund-lost",  # requested here, and the provider had not heard of it or its answer was lost
    "paid-for-nobody",  # the buyer was erased before the payment came: it is given back
    "order-unknown-here",
    "refund-unknown-here",
    "states-differ",  # order, payment, amount or currency contradict ours
    "paid-there-closed-here",
    "paid-here-not-there",
    "refund-here-not-there",
    "not-answered-for",  # the provider gave no usable answer about this order; the next run asks again
    "journal-unbalanced",
    "books-differ",  # what the provider holds is not what our ledger says
]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One difference. subject_id: an order, payment, refund or journal; detail: without personal data."""

    kind: Kind
    subject_id: str
    action: Literal["corrected", "flagged"]
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run saw and found."""

    intents_seen: int
    refunds_seen: int
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing is left that a person must look at."""
        return all(finding.action == "corrected" for finding in self.findings)


def reconcile(till: Till, now: datetime, since: datetime | None = None) -> Report:
    """Correct what can be, flag the rest. since: only what changed there from then on; None also compares the sums.

    Raises ProviderUnavailable; what was corrected before stays.
    """
    intents = {intent.id: intent for intent in till.provider.intents(since)}
    there = {refund.id: refund for refund in till.provider.refunds(since)}
    findings: list[Finding] = []
    for intent in intents.values():
        findings += _intent(till, intent, now)
    findings += overdue(till, now)
    for seen in there.values():
        findings += _refund(till, seen, now)
    findings += _lost_refunds(till, now)
    findings += _kept_from_nobody(till)
    if since is None:
        findings += _missing_there(till, intents, there)
        findings += _books(till)
    with till.database.reading() as session:
        crooked = ledger.unbalanced_journals(session)
    findings += [Finding(kind="journal-unbalanced", subject_id=journal, action="flagged") for journal in crooked]
    return Report(intents_seen=len(intents), refunds_seen=len(there), findings=tuple(findings))


def _intent(till: Till, intent: ProviderIntent, now: datetime) -> Iterator[Finding]:
    with till.database.reading() as session:
        order = session.get(Order, intent.order_id)
    if order is None:
        yield Finding(kind="order-unknown-here", subject_id=intent.id, action="flagged", detail=intent.status)
        return
    if order.status in CLOSED and intent.status == "succeeded":
        yield Finding(kind="paid-there-closed-here", subject_id=order.id, action="flagged", detail=order.status)
        return
    try:
        changed = till.hear(order.id, intent, now)
    except Problem as problem:
        yield Finding(kind="states-differ", subject_id=order.id, action="flagged", detail=problem.detail or "")
        return
    if changed and intent.status == "succeeded":
        yield Finding(kind="paid-there-open-here", subject_id=order.id, action="corrected")
    elif changed and intent.status == "cancelled":
        yield Finding(kind="closed-there-open-here", subject_id=order.id, action="corrected")
    elif order.intent_id is None:
        yield Finding(kind="intent-not-noted", subject_id=order.id, action="corrected")


def overdue(till: Till, now: datetime, stopping: Callable[[], bool] = lambda: False) -> Iterator[Finding]:
    """Close what was not paid in time, one order after the other.

    stopping: asked before each. An order that the provider does not answer for keeps no other from its turn; raises
    ProviderUnavailable once it answered for none of several in a row, or for none at all.
    """
    unanswered, answered, last = 0, 0, None
    for order_id in _overdue_ids(till, now):
        if stopping():
            return
        try:
            intent = till.cancelled_intent(order_id)
            unanswered, answered = 0, answered + 1
            if intent is not None and till.hear(order_id, intent, now):
                kind: Kind = "paid-there-open-here" if intent.status == "succeeded" else "overdue"
                yield Finding(kind=kind, subject_id=order_id, action="corrected")
        except ProviderUnavailable as error:
            unanswered, last = unanswered + 1, error
            if unanswered == _UNANSWERED_IN_A_ROW:
                raise
            yield Finding(kind="not-answered-for", subject_id=order_id, action="flagged")
        except ProviderRefused as refused:
            yield Finding(kind="states-differ", subject_id=order_id, action="flagged", detail=str(refused))
        except Problem as problem:
            if problem.slug != "payment-differs":
                raise
            yield Finding(kind="states-differ", subject_id=order_id, action="flagged", detail=problem.detail or "")
    if last is not None and not answered:
        raise last


def _overdue_ids(till: Till, now: datetime) -> Iterator[str]:
    # From behind the last one on: those that stay open, for a person to look at, keep no other from their turn.
    after = ""
    while True:
        with till.database.reading() as session:
            found = overdue_orders(session, now, after, _ORDERS_AT_ONCE)
        if not found:
            return
        yield from found
        after = found[-1]


def _refund(till: Till, seen: ProviderRefund, now: datetime) -> Iterator[Finding]:
    with till.database.reading() as session:
        known = session.get(Refund, seen.refund_id)
    if known is None:
        yield Finding(kind="refund-unknown-here", subject_id=seen.id, action="flagged", detail=seen.status)
        return
    try:
        with till.database.writing() as session:
            changed = refunds.settle(session, till.shelf, known.id, seen, now)[1]
    except Problem as problem:
        yield Finding(kind="states-differ", subject_id=known.id, action="flagged", detail=problem.detail or "")
        return
    if changed:
        yield Finding(kind="refund-lost", subject_id=known.id, action="corrected", detail=seen.status)


def _lost_refunds(till: Till, now: datetime) -> Iterator[Finding]:
    with till.database.reading() as session:
        wanted = select(Refund.id).where(col(Refund.status) == "requested", col(Refund.provider_id).is_(None))
        lost = list(session.exec(wanted.order_by(col(Refund.id))).all())
    for refund_id in lost:
        seen = refunds.ask_provider(till.database, till.provider, refund_id)
        try:
            with till.database.writing() as session:
                refund, _ = refunds.settle(session, till.shelf, refund_id, seen, now)
        except Problem as problem:
            yield Finding(kind="states-differ", subject_id=refund_id, action="flagged", detail=problem.detail or "")
            continue
        nobodys = refund.reason == PAID_FOR_NOBODY
        if nobodys and refund.status == "failed":
            continue  # flagged below, in every run
        kind: Kind = "paid-for-nobody" if nobodys else "refund-lost"
        yield Finding(kind=kind, subject_id=refund_id, action="corrected", detail=refund.status)


def _kept_from_nobody(till: Till) -> Iterator[Finding]:
    """What the provider would not give back, and nobody is left to ask for; until an operator refunds the line."""
    with till.database.reading() as session:
        given = select(Refund.line_id).where(col(Refund.status) != "failed")
        wanted = select(Refund.order_id).where(
            col(Refund.reason) == PAID_FOR_NOBODY, col(Refund.status) == "failed", col(Refund.line_id).not_in(given)
        )
        kept = sorted(set(session.exec(wanted).all()))
    for order_id in kept:
        yield Finding(kind="paid-for-nobody", subject_id=order_id, action="flagged", detail="the refund failed")


def _missing_there(
    till: Till, intents: dict[str, ProviderIntent], there: dict[str, ProviderRefund]
) -> Iterator[Finding]:
    # What was begun here while the lists were read is not there yet: the provider is asked again, one by one.
    with till.database.reading() as session:
        orders = session.exec(select(Order).where(col(Order.status).in_(PAID), col(Order.total_minor) > 0)).all()
        given = session.exec(
            select(Refund).where(col(Refund.status) == "succeeded", col(Refund.amount_minor) > 0)
        ).all()
    for order in orders:
        known = intents.get(order.intent_id or "")
        if (known is None or known.status != "succeeded") and not _stands(till, order.intent_id or ""):
            yield Finding(kind="paid-here-not-there", subject_id=order.id, action="flagged")
    late = {refund.id for refund in given if refund.provider_id not in there}
    if late:
        again = {seen.id for seen in till.provider.refunds(None)}
        for refund in given:
            if refund.id in late and refund.provider_id not in again:
                yield Finding(kind="refund-here-not-there", subject_id=refund.id, action="flagged")


def _stands(till: Till, intent_id: str) -> bool:
    try:
        return bool(intent_id) and till.provider.intent(intent_id).status == "succeeded"
    except ProviderRefused:
        return False


def _books(till: Till) -> Iterator[Finding]:
    """Sums by currency, taken only when nothing moves: with a payment under way the two sides differ for a moment."""
    here = clearing(till.database)
    there: Counter[str] = Counter()
    for intent in till.provider.intents(None):
        if intent.status == "succeeded":
            there[intent.amount.currency] += intent.amount.minor
    for seen in till.provider.refunds(None):
        if seen.status == "succeeded":
            there[seen.amount.currency] -= seen.amount.minor
    if here != clearing(till.database):
        return
    for currency in sorted(set(here) | set(there)):
        if here.get(currency, 0) != there[currency]:
            detail = f"{here.get(currency, 0)} here, {there[currency]} there"
            yield Finding(kind="books-differ", subject_id=currency, action="flagged", detail=detail)


def clearing(database: Database) -> dict[str, int]:
    """What the provider holds for us by our own ledger, by currency."""
    with database.reading() as session:
        found = ledger.balances_of_account(session, "provider-clearing")
    return {balance.currency: balance.minor for balance in found}
