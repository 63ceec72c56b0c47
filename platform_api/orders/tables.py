"""Orders, their lines at the prices of the day, and what a person may use."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, String, UniqueConstraint
from sqlmodel import Field, SQLModel

from platform_api.columns import UtcDateTime


class Order(SQLModel, table=True):
    """One order. user_id is empty once its person was erased: the record of the sale stays.

    intent_id: the payment at the provider, once known; status: see rules.STATUSES.
    """

    __tablename__ = "orders"
    __table_args__ = (CheckConstraint("total_minor >= 0", name="total_not_negative"),)

    id: str = Field(primary_key=True)
    user_id: str | None = Field(default=None, foreign_key="users.id", index=True)
    status: str = Field(max_length=16, index=True)
    total_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    currency: str = Field(max_length=3)
    intent_id: str | None = Field(default=None, max_length=64, unique=True)
    pay_url: str = Field(default="", max_length=500)
    created_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False, index=True))
    expires_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    paid_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))
    revision: int = 1


class CreatorAccount(SQLModel, table=True):
    """What a creator without a tenant is owed is booked under this id, which names nobody.

    user_id: the creator; empty once they were erased. The account and what is owed on it stay.
    """

    __tablename__ = "creator_accounts"

    id: str = Field(primary_key=True)
    user_id: str | None = Field(default=None, foreign_key="users.id", unique=True)
    opened_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))


class OrderLine(SQLModel, table=True):
    """One product in an order, as it was when it was ordered. fee_minor: the platform's part of the price.

    Its seller is a tenant or, without one, the creator's own account: one of seller_tenant_id and creator_account_id
    is empty.
    """

    __tablename__ = "order_lines"
    __table_args__ = (
        UniqueConstraint("order_id", "product_id", "slot_id"),
        CheckConstraint("price_minor >= 0 AND fee_minor >= 0 AND fee_minor <= price_minor", name="fee_within_price"),
        CheckConstraint("(seller_tenant_id = '') <> (creator_account_id = '')", name="one_seller"),
    )

    id: str = Field(primary_key=True)
    order_id: str = Field(sa_column=Column(String, ForeignKey("orders.id"), nullable=False, index=True))
    position: int
    product_id: str = Field(max_length=64)
    version: int
    kind: str = Field(max_length=32)
    title: str = Field(max_length=500)
    slot_id: str = Field(default="", max_length=64)
    price_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    fee_minor: int = Field(sa_column=Column(BigInteger, nullable=False))
    currency: str = Field(max_length=3)
    seller_tenant_id: str = Field(default="", max_length=64, index=True)
    creator_account_id: str = Field(default="", max_length=64, index=True)


class Entitlement(SQLModel, table=True):
    """One person's claim to one version of one product (one slot of it): at most one, whatever the orders.

    reserved while an order for it waits to be paid, active once it is, withdrawn when the order closes or the line is
    refunded. line_id: the order line that the claim stems from now.
    """

    __tablename__ = "entitlements"
    __table_args__ = (UniqueConstraint("user_id", "product_id", "version", "slot_id"),)

    id: str = Field(primary_key=True)
    user_id: str = Field(sa_column=Column(String, ForeignKey("users.id"), nullable=False))
    product_id: str = Field(max_length=64)
    version: int
    slot_id: str = Field(default="", max_length=64)
    status: str = Field(max_length=16)
    line_id: str = Field(sa_column=Column(String, ForeignKey("order_lines.id"), nullable=False, index=True))
    granted_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime, nullable=True))
