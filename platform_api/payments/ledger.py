"""Double entry: every journal sums to zero in each currency, is booked once, and is never changed.

Accounts: `provider-clearing` is what the provider holds for us; `tenant-revenue`, `creator-revenue` and `platform-fee`
are what sales earned; `tenant-refunds`, `creator-refunds` and `fee-refunds` what was taken back of it;
`refunds-pending` what the provider was asked to give back and has not yet. A debit is above zero, so what is earned
stands below it. Each tenant has its own two, and so has each creator without a tenant, under the id of the account in
`creator_accounts`, which alone names the creator.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

from sqlalchemy import Select, func, literal, tuple_
from sqlalchemy import select as sql_select
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from platform_api.columns import new_id
from platform_api.orders.tables import Order, OrderLine
from platform_api.payments.tables import Journal, Posting, Refund

Account = Literal[
    "provider-clearing",
    "tenant-revenue",
    "creator-revenue",
    "platform-fee",
    "tenant-refunds",
    "creator-refunds",
    "fee-refunds",
    "refunds-pending",
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
    creator_account_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """The sum of an account's postings in one currency, for one tenant or creator (both "": the platform's own)."""

    account: str
    tenant_id: str
    creator_account_id: str
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
                creator_account_id=entry.creator_account_id,
                amount_minor=entry.minor,
                currency=entry.currency,
            )
        )
    session.flush()
    return True


def book_sale(session: Session, order: Order, lines: list[OrderLine], now: datetime) -> bool:
    """An order was paid."""
    earned: dict[tuple[str, str], int] = defaultdict(int)
    for line in lines:
        earned[line.seller_tenant_id, line.creator_account_id] += line.price_minor - line.fee_minor
    fees = sum(line.fee_minor for line in lines)
    entries = [
        Entry(account="provider-clearing", minor=order.total_minor, currency=order.currency),
        Entry(account="platform-fee", minor=-fees, currency=order.currency),
        *(_of_seller("revenue", seller, -minor, order.currency) for seller, minor in sorted(earned.items())),
    ]
    return book(session, "sale", order.id, order.id, entries, now)


def book_refund_requested(session: Session, refund: Refund, line: OrderLine, now: datetime) -> bool:
    """The seller and the platform owe what is to be given back from now on."""
    return book(session, "refund-requested", refund.id, refund.order_id, _owed(refund, line, 1), now)


def book_refund_failed(session: Session, refund: Refund, line: OrderLine, now: datetime) -> bool:
    """The provider will not give it back: the request is reversed."""
    return book(session, "refund-failed", refund.id, refund.order_id, _owed(refund, line, -1), now)


def book_refund_settled(session: Session, refund: Refund, now: datetime) -> bool:
    """The provider has given it back."""
    entries = [
        Entry(account="refunds-pending", minor=refund.amount_minor, currency=refund.currency),
        Entry(account="provider-clearing", minor=-refund.amount_minor, currency=refund.currency),
    ]
    return book(session, "refund-settled", refund.id, refund.order_id, entries, now)


def _owed(refund: Refund, line: OrderLine, sign: int) -> list[Entry]:
    currency, fee = refund.currency, refund.fee_minor
    seller = line.seller_tenant_id, line.creator_account_id
    return [
        _of_seller("refunds", seller, sign * (refund.amount_minor - fee), currency),
        Entry(account="fee-refunds", minor=sign * fee, currency=currency),
        Entry(account="refunds-pending", minor=-sign * refund.amount_minor, currency=currency),
    ]


def _of_seller(what: Literal["revenue", "refunds"], seller: tuple[str, str], minor: int, currency: str) -> Entry:
    tenant_id, creator_account_id = seller
    account: Account
    if tenant_id:
        account = "tenant-revenue" if what == "revenue" else "tenant-refunds"
    else:
        account = "creator-revenue" if what == "revenue" else "creator-refunds"
    return Entry(
        account=account, minor=minor, currency=currency, tenant_id=tenant_id, creator_account_id=creator_account_id
    )


_KEYS: Final[tuple[Any, ...]] = (
    col(Posting.account),
    col(Posting.tenant_id),
    col(Posting.creator_account_id),
    col(Posting.currency),
)


def balances(session: Session, after: tuple[str, ...] | None = None, limit: int | None = None) -> list[Balance]:
    """Every account's balance, sorted by `place`; after: the place of the one before."""
    wanted = _sums().limit(limit)
    return _summed(session, wanted if after is None else wanted.where(tuple_(*_KEYS) > tuple_(*map(literal, after))))


def place(balance: Balance) -> tuple[str, str, str, str]:
    """Where a balance stands in the list."""
    return balance.account, balance.tenant_id, balance.creator_account_id, balance.currency


def balances_of_account(session: Session, account: Account) -> list[Balance]:
    """An account's balances, whoever's, in every currency."""
    return _summed(session, _sums().where(col(Posting.account) == account))


def balances_of_creator(session: Session, creator_account_id: str) -> list[Balance]:
    """What one creator without a tenant has earned and given back, in every currency."""
    return _summed(session, _sums().where(col(Posting.creator_account_id) == creator_account_id))


def _sums() -> Select[Any]:
    return sql_select(func.sum(Posting.amount_minor), *_KEYS).group_by(*_KEYS).order_by(*_KEYS)


def _summed(session: Session, wanted: Select[Any]) -> list[Balance]:
    return [
        Balance(account=account, tenant_id=tenant, creator_account_id=creator, currency=currency, minor=int(minor))
        for minor, account, tenant, creator, currency in session.execute(wanted)
    ]


def unbalanced_journals(session: Session) -> list[str]:
    """Ids of journals that do not sum to zero in some currency, or have no postings: there should be none."""
    total = func.sum(Posting.amount_minor)
    keys = (col(Posting.journal_id), col(Posting.currency))
    crooked = set(session.exec(select(col(Posting.journal_id)).group_by(*keys).having(total != 0)).all())
    empty = select(Journal.id).where(col(Journal.id).not_in(select(Posting.journal_id)))
    return sorted(crooked | set(session.exec(empty).all()))
