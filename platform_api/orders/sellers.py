"""Accounts of creators without a tenant, opened with their first product: what they are owed is booked there.

The ledger cannot be changed, so it must name nobody: it has the account's id alone. The account, and the products that
were sold, lead from there to the creator's row among the users, which an erasure empties.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select, update

from platform_api.accounts.tables import User
from platform_api.columns import new_id
from platform_api.orders.shelf import Sellable
from platform_api.orders.tables import CreatorAccount
from platform_api.problems import Problem


def accounts_of(session: Session, products: Iterable[Sellable], now: datetime) -> dict[str, str]:
    """Ids of the accounts of these products' creators, by user; those of tenants need none.

    Raises Problem (404) for a product whose creator was erased meanwhile.
    """
    # By id, so that two orders that open the same accounts wait for each other instead of both.
    creators = sorted({product.creator_user_id for product in products if not product.seller_tenant_id})
    return {creator: opened(session, creator, now).id for creator in creators}


def account_of(session: Session, user_id: str) -> CreatorAccount | None:
    """A creator's account, once they have made a product without a tenant."""
    return session.exec(select(CreatorAccount).where(col(CreatorAccount.user_id) == user_id)).one_or_none()


def disown(session: Session, user_id: str) -> None:
    """The account stays with what is owed on it, and leads to nobody any more."""
    session.exec(update(CreatorAccount).where(col(CreatorAccount.user_id) == user_id).values(user_id=None))


def opened(session: Session, user_id: str, now: datetime) -> CreatorAccount:
    """This creator's account, new where there was none. Raises Problem (404) for one who was erased.

    Opened by the creator's own request for a product, which keeps them from being erased meanwhile. An order finds it
    there and locks nobody; only where something else than the catalogue sells does it open one.
    """
    found = account_of(session, user_id)
    if found is not None:
        return found
    held = select(User).where(col(User.id) == user_id).with_for_update(read=True, key_share=True)
    creator = session.exec(held.execution_options(populate_existing=True)).one_or_none()
    if creator is None or creator.erased_at is not None:
        raise Problem("not-found", "no such product is on sale")
    account = CreatorAccount(id=new_id("sel"), user_id=user_id, opened_at=now)
    try:
        with session.begin_nested():
            session.add(account)
    except IntegrityError:  # another order has opened it just now
        return session.exec(select(CreatorAccount).where(col(CreatorAccount.user_id) == user_id)).one()
    return account
