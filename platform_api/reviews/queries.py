"""Reading reviews."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import and_, func, or_
from sqlalchemy import select as sql_select
from sqlmodel import Session, col, select

from platform_api.reviews.tables import Review


@dataclass(frozen=True, kw_only=True)
class RatingSummary:
    """Ratings that are enough to be shown. average: to one decimal."""

    count: int
    average: float


def rating_summaries(session: Session, product_ids: Iterable[str], min_shown: int) -> dict[str, RatingSummary]:
    """Ratings by product, without the hidden ones; products with fewer than min_shown are left out."""
    wanted = (
        sql_select(col(Review.product_id), func.count(col(Review.id)), func.sum(col(Review.rating)))
        .where(col(Review.product_id).in_(list(product_ids)), col(Review.hidden_at).is_(None))
        .group_by(col(Review.product_id))
        .having(func.count(col(Review.id)) >= min_shown)
    )
    return {
        product_id: RatingSummary(count=count, average=round(int(total) / count, 1))
        for product_id, count, total in session.execute(wanted)
    }


def shown_after(session: Session, product_id: str, after: tuple[Any, ...] | None, limit: int) -> list[Review]:
    """Reviews that are not hidden, the latest day first. after: (day in ISO form, id)."""
    wanted = select(Review).where(col(Review.product_id) == product_id, col(Review.hidden_at).is_(None))
    if after is not None:
        day = date.fromisoformat(after[0])
        earlier = and_(col(Review.written_on) == day, col(Review.id) > after[1])
        wanted = wanted.where(or_(col(Review.written_on) < day, earlier))
    return list(session.exec(wanted.order_by(col(Review.written_on).desc(), col(Review.id)).limit(limit)).all())


def moderated_after(session: Session, product_id: str, after: str | None, limit: int) -> list[Review]:
    """Every review of a product, hidden ones included, by id."""
    wanted = select(Review).where(col(Review.product_id) == product_id).order_by(col(Review.id)).limit(limit)
    return list(session.exec(wanted if after is None else wanted.where(col(Review.id) > after)).all())


def own(session: Session, user_id: str, product_id: str, *, lock: bool = False) -> Review | None:
    wanted = select(Review).where(col(Review.user_id) == user_id, col(Review.product_id) == product_id)
    return session.exec(wanted.with_for_update() if lock else wanted).one_or_none()


def of_person(session: Session, user_id: str) -> list[Review]:
    return list(session.exec(select(Review).where(col(Review.user_id) == user_id).order_by(col(Review.id))).all())
