"""Categories, products, versions of products, and slots of consulting with what holds them."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, String, Text
from sqlmodel import Field, SQLModel

from platform_api.columns import UtcDateTime


class Category(SQLModel, table=True):
    """A place in the tree of subjects. Its slug and parent stay; its names may change."""

    __tablename__ = "categories"

    slug: str = Field(primary_key=True, max_length=64)
    parent_slug: str | None = Field(default=None, foreign_key="categories.slug", index=True)
    name_zh: str = Field(max_length=100)
    name_en: str = Field(max_length=100)
    revision: int = 1


class ShelfChange(SQLModel, table=True):
    """One row: how often the shelves changed. What was read of the shelves holds while it stands."""

    __tablename__ = "shelf_changes"

    id: int = Field(default=1, primary_key=True, sa_column_kwargs={"autoincrement": False})
    number: int


class Product(SQLModel, table=True):
    """Something that is sold. What is said of it stands in its versions; current_version: the one on sale.

    user_id: who made it. revision: counts every change of the product, its versions and its slots.
    """

    __tablename__ = "products"
    __table_args__ = (Index("ix_products_first_published_at_id", "first_published_at", "id"),)

    id: str = Field(primary_key=True)
    kind: str = Field(max_length=16)
    user_id: str = Field(foreign_key="users.id", index=True)
    tenant_id: str | None = Field(default=None, foreign_key="tenants.id", index=True)
    current_version: int | None = None
    revision: int = 1
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    first_published_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))
    archived_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))


class ProductVersion(SQLModel, table=True):
    """One version. state: draft, review or published; a published one never changes again.

    content: what buyers read. review_note: why a reviewer returned it.
    """

    __tablename__ = "product_versions"
    __table_args__ = (
        CheckConstraint("price_minor >= 0", name="price_is_not_negative"),
        CheckConstraint("state IN ('draft', 'review', 'published')", name="state_is_known"),
    )

    product_id: str = Field(sa_column=Column(String, ForeignKey("products.id"), primary_key=True))
    number: int = Field(primary_key=True)
    state: str = Field(default="draft", max_length=16, index=True)
    title: str = Field(max_length=200)
    description: str = Field(sa_column=Column(Text, nullable=False))
    content: str = Field(sa_column=Column(Text, nullable=False))
    language: str = Field(max_length=16)
    category: str = Field(foreign_key="categories.slug", index=True)
    price_minor: int
    currency: str = Field(max_length=3)
    review_note: str = Field(default="", max_length=2000)
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    submitted_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))
    published_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))


class ConsultingSlot(SQLModel, table=True):
    """A time at which one buyer can be advised."""

    __tablename__ = "consulting_slots"

    id: str = Field(primary_key=True)
    product_id: str = Field(foreign_key="products.id", index=True)
    starts_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False, index=True))
    ends_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class SlotHold(SQLModel, table=True):
    """A slot that an order has. The primary key decides who of two is first: a slot has room for one."""

    __tablename__ = "slot_holds"

    slot_id: str = Field(sa_column=Column(String, ForeignKey("consulting_slots.id"), primary_key=True))
    order_id: str = Field(max_length=64, index=True)
    held_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
