"""What goes over the wire about reviews."""

from datetime import date
from typing import Annotated

from pydantic import BaseModel, Field, StrictBool, StringConstraints

from platform_api.catalogue.schemas import Strict

_LINES = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"


class ReviewWish(Strict):
    """A review; it replaces the one before."""

    rating: Annotated[int, Field(ge=1, le=5, strict=True)] = Field(examples=[5])
    text: Annotated[str, StringConstraints(strip_whitespace=True, max_length=4000, pattern=_LINES)] = Field(
        default="", examples=["讲得很清楚"]
    )
    show_name: StrictBool = Field(default=False, description="whether the public sees the display name")


class Hiding(Strict):
    """Why a review is hidden. Its author reads it."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000, pattern=_LINES)]


class OwnReview(BaseModel):
    """A review as its author sees it."""

    id: str
    product_id: str
    rating: int
    text: str
    show_name: bool
    written_on: date
    hidden: bool
    hidden_reason: str


class PublicReview(BaseModel):
    """A review as everybody sees it. display_name: only where the author wants it."""

    id: str
    rating: int
    text: str
    display_name: str | None
    written_on: date


class ModeratedReview(PublicReview):
    """A review as reviewers see it."""

    hidden: bool
    hidden_reason: str


class Rating(BaseModel):
    """Ratings of a product. Where there are too few, neither how many nor how good is said."""

    shown: bool
    count: int | None = Field(description="null where too few")
    average: float | None = Field(description="to one decimal; null where too few")
    min_ratings_shown: int
