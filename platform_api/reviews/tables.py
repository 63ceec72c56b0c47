"""Reviews."""

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Column, Date, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from platform_api.columns import UtcDateTime


class Review(SQLModel, table=True):
    """What one buyer says of one product. The unique constraint gives everyone one voice.

    written_on: a day and no time, which is what the public sees.
    """

    __tablename__ = "product_reviews"
    __table_args__ = (
        UniqueConstraint("product_id", "user_id"),
        CheckConstraint("rating BETWEEN 1 AND 5", name="rating_is_one_to_five"),
    )

    id: str = Field(primary_key=True)
    product_id: str = Field(foreign_key="products.id")
    user_id: str = Field(foreign_key="users.id", index=True)
    rating: int
    text: str = Field(sa_column=Column(Text, nullable=False))
    show_name: bool = False
    written_on: date = Field(sa_column=Column(Date, nullable=False))
    revision: int = 1
    hidden_reason: str = Field(default="", max_length=2000)
    hidden_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))
