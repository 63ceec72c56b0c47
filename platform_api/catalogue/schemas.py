"""What goes over the wire about products, categories and slots."""

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from platform_api.clock import Instant

Kind = Literal["course", "e-book", "consulting"]
Language = Literal["zh-CN", "en"]
State = Literal["draft", "review", "published", "archived"]
Sort = Literal["newest", "price", "-price"]

# Neither NUL, which PostgreSQL refuses, nor other control characters; lines and tabs where text is long.
_LINE = r"^[^\x00-\x1f\x7f]*$"
_LINES = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"
MAX_PRICE_MINOR = 1_000_000_000

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_LINE)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=_LINE)]
Description = Annotated[str, StringConstraints(strip_whitespace=True, max_length=10_000, pattern=_LINES)]
Content = Annotated[str, StringConstraints(max_length=200_000, pattern=_LINES)]
Note = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000, pattern=_LINES)]
Slug = Annotated[str, StringConstraints(max_length=64, pattern=SLUG)]
Price = Annotated[int, Field(ge=0, le=MAX_PRICE_MINOR, strict=True, description="in minor units of the currency")]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Identifier = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
SlugInPath = Annotated[str, Path(pattern=SLUG, max_length=64)]
VersionNumber = Annotated[int, Path(ge=1, le=2**31 - 1)]


class Strict(BaseModel):
    """Input: a field that is not listed is an error."""

    model_config = ConfigDict(extra="forbid")


class NewCategory(Strict):
    """A category to add; without parent_slug it is at the top of the tree."""

    slug: Slug = Field(examples=["privacy"])
    parent_slug: Slug | None = None
    name_zh: Name = Field(examples=["隐私保护"])
    name_en: Name = Field(examples=["Privacy"])


class CategoryChange(Strict):
    """Names to change; what is left out stays."""

    name_zh: Name | None = None
    name_en: Name | None = None


class CategoryEntry(BaseModel):
    """A category."""

    slug: str
    parent_slug: str | None
    name_zh: str
    name_en: str


class NewProduct(Strict):
    """The first draft of a product."""

    kind: Kind = Field(examples=["course"])
    title: Title = Field(examples=["隐私计算入门"])
    description: Description = Field(examples=["从差分隐私到联邦学习"])
    content: Content = Field(default="", description="what buyers read")
    language: Language
    category: Slug = Field(examples=["privacy"])
    price_minor: Price = Field(examples=[19_900])
    currency: Currency = Field(examples=["CNY"])


class ProductChange(Strict):
    """Fields to change; what is left out stays."""

    title: Title | None = None
    description: Description | None = None
    content: Content | None = None
    language: Language | None = None
    category: Slug | None = None
    price_minor: Price | None = None
    currency: Currency | None = None


class ReviewNote(Strict):
    """Why a draft goes back to its creator."""

    note: Note = Field(examples=["The description promises a certificate that the course does not give."])


class ProductEntry(BaseModel):
    """A product on sale."""

    id: str
    kind: Kind
    version: int
    title: str
    description: str
    language: Language
    category: str
    price_minor: int
    currency: str
    tenant_id: str | None
    published_at: datetime = Field(description="when it was first on sale")


class ProductPage(ProductEntry):
    """A product on sale, and who made it."""

    creator_name: str


class VersionView(BaseModel):
    """One version, with what buyers read."""

    number: int
    state: Literal["draft", "review", "published"]
    title: str
    description: str
    content: str
    language: Language
    category: str
    price_minor: int
    currency: str
    review_note: str
    created_at: datetime
    published_at: datetime | None


class ReadableVersion(BaseModel):
    """A version that was bought."""

    product_id: str
    kind: Kind
    number: int
    title: str
    description: str
    content: str
    language: Language
    category: str
    published_at: datetime


class ManagedProduct(BaseModel):
    """A product as its creator, its reviewers and operators see it. draft: the version that is being worked on."""

    id: str
    kind: Kind
    state: State
    tenant_id: str | None
    created_at: datetime
    archived_at: datetime | None
    current: VersionView | None
    draft: VersionView | None


class ManagedEntry(BaseModel):
    """A line of a list of products that are managed."""

    id: str
    kind: Kind
    state: State
    title: str
    created_at: datetime


class NewSlot(Strict):
    """A time for one buyer."""

    starts_at: Instant
    ends_at: Instant

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.starts_at < self.ends_at:
            raise ValueError("a slot ends after it starts")
        return self


class SlotEntry(BaseModel):
    """A time that can be booked."""

    id: str
    starts_at: datetime
    ends_at: datetime
