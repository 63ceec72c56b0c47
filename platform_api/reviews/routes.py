"""Routes of reviews and ratings."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from platform_api.access import ANY_PERSON, PUBLIC, KnownCaller, Rule, access
from platform_api.accounts.queries import display_names
from platform_api.catalogue import queries as catalogue
from platform_api.catalogue.entitled import Entitlement
from platform_api.catalogue.schemas import Identifier
from platform_api.clock import Now
from platform_api.cursors import Page, Paging
from platform_api.database import ReadSession, WriteSession
from platform_api.etags import require_match, revision_etag, state_etag
from platform_api.problems import Problem
from platform_api.reviews import queries, service
from platform_api.reviews.schemas import Hiding, ModeratedReview, OwnReview, PublicReview, Rating, ReviewWish
from platform_api.reviews.tables import Review

reviews = APIRouter(tags=["reviews"])
MODERATORS = Rule(roles=("reviewer",), people_only=True)


@reviews.put("/products/{product_id}/reviews/mine", responses={201: {"model": OwnReview}}, **access(ANY_PERSON))
def write_review(
    response: Response,
    product_id: Identifier,
    wish: ReviewWish,
    caller: KnownCaller,
    session: WriteSession,
    now: Now,
    entitled: Entitlement,
) -> OwnReview:
    """Review what one bought; 201 for the first time, afterwards it replaces the review before."""
    review, fresh = service.write(session, caller, product_id, wish, entitled, now)
    response.status_code = 201 if fresh else 200
    return _own(review)


@reviews.get("/products/{product_id}/reviews/mine", **access(ANY_PERSON))
def read_own_review(product_id: Identifier, caller: KnownCaller, session: ReadSession) -> OwnReview:
    """The own review of a product."""
    found = queries.own(session, caller.id, product_id)
    if found is None:
        raise Problem("not-found", "there is no review of yours")
    return _own(found)


@reviews.delete("/products/{product_id}/reviews/mine", status_code=204, **access(ANY_PERSON))
def withdraw_review(product_id: Identifier, caller: KnownCaller, session: WriteSession) -> None:
    """Delete the own review of a product."""
    service.withdraw(session, caller.id, product_id)


@reviews.get("/products/{product_id}/reviews", **access(PUBLIC))
def list_reviews(
    request: Request, response: Response, product_id: Identifier, paging: Paging, session: ReadSession
) -> Page[PublicReview]:
    """Reviews of a product on sale, the latest day first; none where there are too few to show a rating."""
    catalogue.sellable(session, product_id)
    rows: list[Review] = []
    # A list of two reviews would say what the rating withholds.
    if queries.rating_summaries(session, [product_id], _least(request)):
        rows = queries.shown_after(session, product_id, paging.after, paging.limit + 1)
    # Only these names are asked for at all.
    names = display_names(session, [row.user_id for row in rows if row.show_name])
    return paging.page(
        response,
        rows,
        lambda row: (row.written_on.isoformat(), row.id),
        lambda row: PublicReview(**_public(row, names)),
    )


@reviews.get("/products/{product_id}/rating", **access(PUBLIC))
def read_rating(request: Request, product_id: Identifier, session: ReadSession) -> Rating:
    """How a product on sale is rated, where enough people rated it."""
    catalogue.sellable(session, product_id)
    least = _least(request)
    found = queries.rating_summaries(session, [product_id], least).get(product_id)
    return Rating(
        shown=found is not None,
        count=found.count if found else None,
        average=found.average if found else None,
        min_ratings_shown=least,
    )


@reviews.get("/products/{product_id}/reviews/moderation", **access(MODERATORS))
def list_to_moderate(
    response: Response, product_id: Identifier, paging: Paging, caller: KnownCaller, session: ReadSession
) -> Page[ModeratedReview]:
    """Every review of a product, hidden ones included, by id."""
    if not service.may_moderate(session, caller, product_id):
        raise Problem("not-found", "no such product")
    rows = queries.moderated_after(session, product_id, paging.after_id, paging.limit + 1)
    return paging.page(response, rows, lambda row: (row.id,), _moderated)


@reviews.get("/reviews/{review_id}", **access(MODERATORS))
def read_review(
    response: Response, review_id: Identifier, caller: KnownCaller, session: ReadSession
) -> ModeratedReview:
    """One review, for reviewers. Its ETag is for If-Match."""
    review = service.to_moderate(session, caller, review_id)
    state_etag(response, revision_etag(review.id, review.revision))
    return _moderated(review)


@reviews.post("/reviews/{review_id}/hide", **access(MODERATORS))
def hide_review(
    request: Request,
    response: Response,
    review_id: Identifier,
    wish: Hiding,
    caller: KnownCaller,
    session: WriteSession,
    now: Now,
) -> ModeratedReview:
    """Hide a review from the public and from the rating. Needs If-Match: what is hidden is what was read."""
    return _judged(request, response, caller, session, review_id, wish.reason, now)


@reviews.post("/reviews/{review_id}/show", **access(MODERATORS))
def show_review(
    request: Request, response: Response, review_id: Identifier, caller: KnownCaller, session: WriteSession, now: Now
) -> ModeratedReview:
    """Show a hidden review again. Needs If-Match."""
    return _judged(request, response, caller, session, review_id, None, now)


def _judged(
    request: Request,
    response: Response,
    caller: KnownCaller,
    session: WriteSession,
    review_id: str,
    reason: str | None,
    now: datetime,
) -> ModeratedReview:
    review = service.to_moderate(session, caller, review_id)
    require_match(request, revision_etag(review.id, review.revision))
    review = service.show(session, review) if reason is None else service.hide(session, review, reason, now)
    state_etag(response, revision_etag(review.id, review.revision))
    return _moderated(review)


def _least(request: Request) -> int:
    least: int = request.app.state.settings.min_ratings_shown
    return least


def _own(review: Review) -> OwnReview:
    return OwnReview(
        **review.model_dump(exclude={"user_id", "revision", "hidden_at"}), hidden=review.hidden_at is not None
    )


def _public(review: Review, names: dict[str, str]) -> dict[str, Any]:
    return {
        **review.model_dump(include={"id", "rating", "text", "written_on"}),
        "display_name": names.get(review.user_id),
    }


def _moderated(review: Review) -> ModeratedReview:
    # Who wrote it does not matter to whether it may stand.
    return ModeratedReview(
        **review.model_dump(include={"id", "rating", "text", "written_on", "hidden_reason"}),
        display_name=None,
        hidden=review.hidden_at is not None,
    )
