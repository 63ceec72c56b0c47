"""Double entry: every journal sums to zero in each currency, is booked once, and is never changed.

Accounts: `provider-clearing` is what the provider holds for us; `tenant-revenue` and `platform-fee` are what sales
earned; `tenant-refunds` and `fee-refunds` what was taken back of it; `refunds-pending` what the provider was asked to
give back and has not yet. A debit is above zero, so what is earned stands below it.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from platform_api.columns import new_id
from platform_api.orders.tables import Order, OrderLine
from platform_api.payments.tables import Journal, Posting, Refund

Account = Literal[
    "provider-clearing", "tenant-revenue", "platform-fee", "tenant-refunds", "fee-refunds", "refunds-pending"
]
ACCOUNTS: tuple[Account, ...] = get_args(Account)
Kind = Literal["sale", "refund-requested", "refund-settled", "refund-failed"]


class UnbalancedJournal(Exception):
    """Postings that do not sum to zero: a fault here, never a state to store."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One side. minor: debit above zero, credit below; zero is left out when booked."""

    account: Account
    minor: int
    currency: str
    tenant_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """The sum of an account's postings for one tenant ("" for the platform's own) in one currency."""

    account: str
    tenant_id: str
    currency: str
    minor: int


def book(session: Session, kind: Kind, subject_id: str, order_id: str, entries: Iterable[Entry], now: datetime) -> bool:
    """Append one journal; False when it was booked before. Raises UnbalancedJournal."""
    entries = [entry for entry in entries if entry.minor != 0]
    sums: dict[str, int] = defaultdict(int)
    for entry in entries:
        sums[entry.currency] += entry.minor
    if any(sums.values()):
        raise UnbalancedJournal(f"{kind}: {dict(sums)}")
    journal = Journal(id=new_id("jrn"), kind=kind, subject_id=subject_id, order_id=order_id, posted_at=now)
    try:
        with session.begin_nested():
            session.add(journal)
    except IntegrityError:
        return False
    for position, entry in enumerate(entries):
        session.add(
            Posting(
                journal_id=journal.id,
                position=position,
                account=entry.account,
                tenant_id=entry.tenant_id,
                amount_minor=entry.minor,
                currency=entry.currency,
            )
        )
    session.flush()
    return True


def book_sale(session: Session, order: Order, lines: list[OrderLine], now: datetime) -> bool:
    """An order was paid."""
    earned: dict[str, int] = defaultdict(int)
    for line in lines:
        earned[line.seller_tenant_id] += line.price_minor - line.fee_minor
    fees = sum(line.fee_minor for line in lines)
    entries = [
        Entry(account="provider-clearing", minor=order.total_minor, currency=order.currency),
        Entry(account="platform-fee", minor=-fees, currency=order.currency),
        *(
            Entry(account="tenant-revenue", minor=-minor, currency=order.currency, tenant_id=tenant)
            for tenant, minor in sorted(earned.items())
        ),
    ]
    return book(session, "sale", order.id, order.id, entries, now)


def book_refund_requested(session: Session, refund: Refund, tenant_id: str, now: datetime) -> bool:
    """The seller and the platform owe what is to be given back from now on."""
    return book(session, "refund-requested", refund.id, refund.order_id, _owed(refund, tenant_id, 1), now)


def book_refund_failed(session: Session, refund: Refund, tenant_id: str, now: datetime) -> bool:
    """The provider will not give it back: the request is reversed."""
    return book(session, "refund-failed", refund.id, refund.order_id, _owed(refund, tenant_id, -1), now)


def book_refund_settled(session: Session, refund: Refund, now: datetime) -> bool:
    """The provider has given it back."""
    entries = [
        Entry(account="refunds-pending", minor=refund.amount_minor, currency=refund.currency),
        Entry(account="provider-clearing", minor=-refund.amount_minor, currency=refund.currency),
    ]
    return book(session, "refund-settled", refund.id, refund.order_id, entries, now)


def _owed(refund: Refund, tenant_id: str, sign: int) -> list[Entry]:
    currency, fee = refund.currency, refund.fee_minor
    return [
        Entry(
            account="tenant-refunds",
            minor=sign * (refund.amount_minor - fee),
            currency=currency,
            tenant_id=tenant_id,
        ),
        Entry(account="fee-refunds", minor=sign * fee, currency=currency),
        Entry(account="refunds-pending", minor=-sign * refund.amount_minor, currency=currency),
    ]


def balances(session: Session) -> list[Balance]:
    """Every account's balance, sorted."""
    keys = (col(Posting.account), col(Posting.tenant_id), col(Posting.currency))
    wanted = select(*keys, func.sum(Posting.amount_minor)).group_by(*keys).order_by(*keys)
    return [
        Balance(account=account, tenant_id=tenant, currency=currency, minor=int(minor))
        for account, tenant, currency, minor in session.exec(wanted).all()
    ]


def unbalanced_journals(session: Session) -> list[str]:
    """Ids of journals that do not sum to zero in some currency, or have no postings: there should be none."""
    total = func.sum(Posting.amount_minor)
    keys = (col(Posting.journal_id), col(Posting.currency))
    crooked = set(session.exec(select(col(Posting.journal_id)).group_by(*keys).having(total != 0)).all())
    empty = select(Journal.id).where(col(Journal.id).not_in(select(Posting.journal_id)))
    return sorted(crooked | set(session.exec(empty).all()))
