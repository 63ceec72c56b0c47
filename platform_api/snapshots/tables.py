"""Snapshots that were made, and the place of every item in all of them."""

from datetime import datetime

from sqlalchemy import Column, ForeignKey, String, Text
from sqlmodel import Field, SQLModel

from platform_api.columns import UtcDateTime


class CataloguePosition(SQLModel, table=True):
    """The place of a product in snapshots. Rows are only added: factors of models are found by place."""

    __tablename__ = "catalogue_positions"

    position: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    product_id: str = Field(sa_column=Column(String, ForeignKey("products.id"), unique=True, nullable=False))


class Snapshot(SQLModel, table=True):
    """One version. digest: of the file; content_digest: of its items, which tells whether anything is new.

    document: the signed JSON that names the file.
    """

    __tablename__ = "catalogue_snapshots"

    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    digest: str = Field(unique=True, max_length=64)
    content_digest: str = Field(max_length=64)
    num_items: int
    size_bytes: int
    document: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
