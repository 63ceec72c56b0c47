"""What goes over the wire about orders."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Ident = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
OrderStatus = Literal["pending", "failed", "paid", "partly_refunded", "refunded", "cancelled", "expired"]


class WishedLine(BaseModel):
    """One product. slot_id: the appointment, for consulting only."""

    model_config = ConfigDict(extra="forbid")

    product_id: Ident = Field(examples=["prd_01h8example"])
    slot_id: Ident | None = None


class NewOrder(BaseModel):
    """What to order; prices are those of this moment."""

    model_config = ConfigDict(extra="forbid")

    lines: Annotated[list[WishedLine], Field(min_length=1, max_length=20)]

    @model_validator(mode="after")
    def _each_once(self) -> "NewOrder":
        if len({(line.product_id, line.slot_id) for line in self.lines}) != len(self.lines):
            raise ValueError("each product may be there once")
        return self


class LineEntry(BaseModel):
    """One line of an order."""

    id: str
    product_id: str
    version: int
    kind: str
    title: str
    slot_id: str
    price_minor: int = Field(examples=[19900])
    currency: str = Field(examples=["CNY"])


class OrderEntry(BaseModel):
    """An order. pay_url: where to pay it, while it is open."""

    id: str
    status: OrderStatus
    total_minor: int
    currency: str
    lines: list[LineEntry]
    pay_url: str | None
    intent_id: str | None
    created_at: datetime
    expires_at: datetime
    paid_at: datetime | None


class EntitlementEntry(BaseModel):
    """Something that one may use."""

    id: str
    product_id: str
    version: int
    slot_id: str
    granted_at: datetime


class SaleEntry(BaseModel):
    """One sold line, without the buyer."""

    line_id: str
    order_id: str
    order_status: OrderStatus
    product_id: str
    version: int
    title: str
    price_minor: int
    fee_minor: int
    currency: str
    paid_at: datetime
