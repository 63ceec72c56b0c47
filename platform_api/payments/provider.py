"""What is asked of a payment provider: hosted payments ("intents") and refunds, each made once per key."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, Protocol

from fastapi import Depends, Request

from platform_api.problems import Problem

IntentStatus = Literal["requires_payment", "requires_action", "processing", "failed", "succeeded", "cancelled"]
RefundStatus = Literal["pending", "succeeded", "failed"]


class ProviderUnavailable(Problem):
    """No answer: whether the thing was done is not known. Asking again with the same key does no harm."""

    def __init__(self) -> None:
        super().__init__("provider-unavailable", headers={"Retry-After": "5"})


class ProviderRefused(Problem):
    """A definite no: nothing was done, and asking again would not change it. code: the provider's word for why."""

    def __init__(self, code: str) -> None:
        super().__init__("conflict", f"the payment provider refused: {code}")
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Money:
    """minor: in the currency's smallest unit."""

    minor: int
    currency: str


@dataclass(frozen=True, kw_only=True)
class ProviderIntent:
    """A payment as the provider states it. order_id: what we gave it."""

    id: str
    order_id: str
    amount: Money
    status: IntentStatus
    pay_url: str = ""

    @property
    def payment(self) -> str:
        """As orders.rules.advance reads it."""
        return self.status if self.status in ("failed", "succeeded", "cancelled") else "waiting"


@dataclass(frozen=True, kw_only=True)
class ProviderRefund:
    """A refund as the provider states it. refund_id: what we gave it."""

    id: str
    refund_id: str
    intent_id: str
    amount: Money
    status: RefundStatus


class PaymentProvider(Protocol):
    """Every method may raise ProviderUnavailable, and ProviderRefused for what it will not do."""

    def create_intent(self, *, order_id: str, amount: Money, key: str) -> ProviderIntent:
        """The payment for an order; the same one whenever asked with the same key."""
        ...

    def intent(self, intent_id: str) -> ProviderIntent:
        """The payment as it is now."""
        ...

    def cancel_intent(self, intent_id: str) -> ProviderIntent:
        """Cancel for good, or the payment as it is when it can no longer be cancelled."""
        ...

    def refund(self, *, intent_id: str, refund_id: str, amount: Money, key: str) -> ProviderRefund:
        """Give money back; the same refund whenever asked with the same key."""
        ...

    def intents(self, since: datetime | None) -> Iterator[ProviderIntent]:
        """Every payment that changed at or after `since`, None for all."""
        ...

    def refunds(self, since: datetime | None) -> Iterator[ProviderRefund]:
        """Every refund that changed at or after `since`, None for all."""
        ...


async def _provider(request: Request) -> PaymentProvider:
    provider: PaymentProvider = request.app.state.provider
    return provider


TheProvider = Annotated[PaymentProvider, Depends(_provider)]
