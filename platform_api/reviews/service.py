"""What may happen to a review. One voice for each buyer and product; what a reviewer hid stays hidden."""

from datetime import datetime
from typing import Any

from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, delete

from platform_api.access import Caller
from platform_api.catalogue import queries as catalogue
from platform_api.catalogue.entitled import IsEntitled
from platform_api.columns import new_id
from platform_api.problems import Problem
from platform_api.reviews import queries
from platform_api.reviews.schemas import ReviewWish
from platform_api.reviews.tables import Review


def write(
    session: Session, caller: Caller, product_id: str, wish: ReviewWish, is_entitled: IsEntitled, now: datetime
) -> tuple[Review, bool]:
    """The caller's one review of a product, and whether it is their first.

    Raises Problem: 404 for what was never on sale, 403 for those who did not buy it, or made it.
    """
    owner = catalogue.creator_of_published(session, product_id)
    if owner is None:
        raise Problem("not-found", "no such product")
    if owner == caller.id or not is_entitled(session, caller.id, product_id, None):
        raise Problem("forbidden", "only those who bought it review a product")
    fresh = _inserted(session, caller.id, product_id, wish, now)
    review = queries.own(session, caller.id, product_id, lock=True)
    if review is None:
        raise Problem("conflict", "the review was deleted meanwhile; write it again")
    if not fresh:
        review.rating, review.text, review.show_name = wish.rating, wish.text, wish.show_name
        review.written_on = now.date()
        review.revision += 1
        session.flush()
    return review, fresh


def withdraw(session: Session, user_id: str, product_id: str) -> None:
    """Delete the own review. Raises Problem: 404; 409 for a hidden one, which would come back unhidden."""
    review = queries.own(session, user_id, product_id, lock=True)
    if review is None:
        raise Problem("not-found", "there is no review of yours")
    if review.hidden_at is not None:
        raise Problem("conflict", "a hidden review stays until a reviewer shows it or the account is erased")
    session.delete(review)
    session.flush()


def to_moderate(session: Session, caller: Caller, review_id: str) -> Review:
    """A review, locked, for a reviewer of the product's tenant or of none. Raises Problem (404)."""
    review = session.get(Review, review_id, with_for_update=True)
    if review is None or not may_moderate(session, caller, review.product_id):
        raise Problem("not-found", "no such review")
    return review


def may_moderate(session: Session, caller: Caller, product_id: str) -> bool:
    """Whether the caller reviews for the tenant of a product that is or was on sale."""
    if not caller.has("reviewer") or catalogue.creator_of_published(session, product_id) is None:
        return False
    return caller.tenant_id == "" or catalogue.tenant_of(session, product_id) == caller.tenant_id


def hide(session: Session, review: Review, reason: str, now: datetime) -> Review:
    """Take a review out of the list and the rating."""
    review.hidden_at, review.hidden_reason = now, reason
    review.revision += 1
    session.flush()
    return review


def show(session: Session, review: Review) -> Review:
    """Undo `hide`."""
    review.hidden_at, review.hidden_reason = None, ""
    review.revision += 1
    session.flush()
    return review


def export_reviews(session: Session, user_id: str) -> dict[str, Any]:
    """What a person wrote."""
    return {"reviews": [review.model_dump(mode="json") for review in queries.of_person(session, user_id)]}


def erase_reviews(session: Session, user_id: str, now: datetime) -> None:
    """Every review of a person goes, and their voice in ratings with it."""
    session.exec(delete(Review).where(col(Review.user_id) == user_id))


def _inserted(session: Session, user_id: str, product_id: str, wish: ReviewWish, now: datetime) -> bool:
    row = {
        "id": new_id("rev"),
        "product_id": product_id,
        "user_id": user_id,
        "written_on": now.date(),
        "revision": 1,
        "hidden_reason": "",
        **wish.model_dump(),
    }
    try:
        with session.begin_nested():
            session.execute(insert(Review).values(**row))
    except IntegrityError:
        return False
    return True
