"""What a creator without a tenant has earned and is owed, by the ledger."""

from collections import defaultdict

from sqlmodel import Session

from platform_api.orders import sellers
from platform_api.payments import ledger
from platform_api.payments.schemas import CreatorAccountEntry, Earnings


def shown(session: Session, user_id: str) -> CreatorAccountEntry:
    """A person's account, without an id where they have none."""
    account = sellers.account_of(session, user_id)
    if account is None:
        return CreatorAccountEntry(id="", items=[])
    sums: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for balance in ledger.balances_of_creator(session, account.id):
        sums[balance.currency][balance.account] += balance.minor
    return CreatorAccountEntry(id=account.id, items=[_earnings(currency, sums[currency]) for currency in sorted(sums)])


def _earnings(currency: str, of_account: dict[str, int]) -> Earnings:
    # What is owed is the sum of all, so that a payout, whatever account it is booked under, counts in it.
    return Earnings(
        currency=currency,
        earned_minor=-of_account["creator-revenue"],
        refunded_minor=of_account["creator-refunds"],
        owed_minor=-sum(of_account.values()),
    )
