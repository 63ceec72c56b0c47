"""What goes over the wire about payments."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from platform_api.clock import Instant
from platform_api.orders.schemas import Ident

Reason = Literal["requested_by_customer", "duplicate", "not_as_described", "seller_cancelled"]


class NewRefund(BaseModel):
    """What to give back. amount_minor: left out for all that is left of the line."""

    model_config = ConfigDict(extra="forbid")

    line_id: Ident = Field(examples=["lin_01h8example"])
    amount_minor: Annotated[int, Field(ge=1, le=2**53, strict=True)] | None = Field(default=None, examples=[500])
    reason: Reason = "requested_by_customer"


class RefundEntry(BaseModel):
    """A refund. requested: the provider has not said yet whether it is done.

    reason: paid_for_nobody where the buyer was erased before the payment came.
    """

    id: str
    order_id: str
    line_id: str
    amount_minor: int
    currency: str
    reason: Reason | Literal["paid_for_nobody"]
    status: Literal["requested", "succeeded", "failed"]
    created_at: datetime
    settled_at: datetime | None


class Refunds(BaseModel):
    """All refunds of an order that the caller may see."""

    items: list[RefundEntry]


class BalanceEntry(BaseModel):
    """An account's balance: debit above zero, credit below.

    tenant_id and creator_account_id: whose it is; both empty for the platform's own.
    """

    account: str
    tenant_id: str
    creator_account_id: str
    currency: str
    minor: int


class Earnings(BaseModel):
    """What sales in one currency have earned a creator after the platform's fee, and what refunds took back of it."""

    currency: str = Field(examples=["CNY"])
    earned_minor: int
    refunded_minor: int
    owed_minor: int = Field(description="earned, less refunded and paid out")


class CreatorAccountEntry(BaseModel):
    """The account of a creator without a tenant. id: empty before the first product of theirs."""

    id: str
    items: list[Earnings]


class NewReconciliation(BaseModel):
    """since: only what changed at the provider from then on; left out for everything, the books' sums included."""

    model_config = ConfigDict(extra="forbid")

    since: Instant | None = None


class FindingEntry(BaseModel):
    """One difference between the provider and this side."""

    kind: str
    subject_id: str
    action: Literal["corrected", "flagged"]
    detail: str


class ReconciliationEntry(BaseModel):
    """What reconciling found. clean: nothing is left that a person must look at."""

    intents_seen: int
    refunds_seen: int
    clean: bool
    findings: list[FindingEntry]
