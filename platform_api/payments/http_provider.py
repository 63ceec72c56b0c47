"""The provider over HTTP, as `zhiyin platform sandbox` and those with the same interface speak it."""

import ssl
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from platform_api.payments.provider import (
    IntentStatus,
    Money,
    ProviderIntent,
    ProviderRefund,
    ProviderRefused,
    ProviderUnavailable,
    RefundStatus,
)
from platform_api.settings import Settings


class IntentBody(BaseModel):
    """A payment on the wire. More fields than these may be there."""

    model_config = ConfigDict(strict=True)

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    order_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    amount_minor: int = Field(ge=0, le=2**53)
    currency: str = Field(pattern="^[A-Z]{3}$")
    status: IntentStatus
    pay_url: str = Field(default="", max_length=500, pattern=r"^(https?://[!-~]+)?$")

    def value(self) -> ProviderIntent:
        amount = Money(minor=self.amount_minor, currency=self.currency)
        return ProviderIntent(
            id=self.id, order_id=self.order_id, amount=amount, status=self.status, pay_url=self.pay_url
        )


class RefundBody(BaseModel):
    """A refund on the wire."""

    model_config = ConfigDict(strict=True)

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    refund_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    intent_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    amount_minor: int = Field(ge=0, le=2**53)
    currency: str = Field(pattern="^[A-Z]{3}$")
    status: RefundStatus

    def value(self) -> ProviderRefund:
        amount = Money(minor=self.amount_minor, currency=self.currency)
        return ProviderRefund(
            id=self.id, refund_id=self.refund_id, intent_id=self.intent_id, amount=amount, status=self.status
        )


@cache
def _trusted() -> ssl.SSLContext:
    # The usual certificates, read once a process.
    return httpx.create_ssl_context(trust_env=False)


class HttpProvider:
    """A PaymentProvider. client: with its base_url set to the provider's; for tests with another transport."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    @classmethod
    def of(cls, settings: Settings) -> "HttpProvider":
        """As the settings say."""
        key = settings.provider_key.get_secret_value()
        return cls(
            httpx.Client(
                base_url=settings.provider_url,
                timeout=settings.provider_timeout_seconds,
                headers={"Authorization": f"Bearer {key}"},
                verify=_trusted(),
                # Payments go to the address that was set, not to one that an environment or an answer names.
                trust_env=False,
                follow_redirects=False,
            )
        )

    def close(self) -> None:
        self._client.close()

    def create_intent(self, *, order_id: str, amount: Money, key: str) -> ProviderIntent:
        body = {"order_id": order_id, "amount_minor": amount.minor, "currency": amount.currency}
        return _intent(self._ask("POST", "/intents", body, key))

    def intent(self, intent_id: str) -> ProviderIntent:
        return _intent(self._ask("GET", f"/intents/{intent_id}"))

    def cancel_intent(self, intent_id: str) -> ProviderIntent:
        return _intent(self._ask("POST", f"/intents/{intent_id}/cancel"))

    def refund(self, *, intent_id: str, refund_id: str, amount: Money, key: str) -> ProviderRefund:
        body = {
            "intent_id": intent_id,
            "refund_id": refund_id,
            "amount_minor": amount.minor,
            "currency": amount.currency,
        }
        return _refund(self._ask("POST", "/refunds", body, key))

    def intents(self, since: datetime | None) -> Iterator[ProviderIntent]:
        for entry in self._list("/intents", since):
            yield _intent(entry)

    def refunds(self, since: datetime | None) -> Iterator[ProviderRefund]:
        for entry in self._list("/refunds", since):
            yield _refund(entry)

    def _list(self, path: str, since: datetime | None) -> Iterator[Any]:
        after = ""
        while True:
            query = {"after": after, **({"since": since.isoformat()} if since else {})}
            page = self._ask("GET", path, query=query)
            if not isinstance(page, dict) or not isinstance(page.get("items"), list):
                raise ProviderUnavailable
            yield from page["items"]
            after = page.get("next") or ""
            if not after:
                return

    def _ask(
        self, method: str, path: str, body: Any = None, key: str | None = None, query: dict[str, str] | None = None
    ) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        try:
            answer = self._client.request(method, path, json=body, params=query, headers=headers)
            said = answer.json()
        except (httpx.HTTPError, ValueError):
            # Also what is cut short or no JSON: it may come from something between us and the provider.
            raise ProviderUnavailable from None
        if answer.status_code in (200, 201):
            return said
        code = said.get("code") if isinstance(said, dict) else None
        if 400 <= answer.status_code < 500 and answer.status_code not in (401, 403, 408, 409, 425, 429) and code:
            raise ProviderRefused(str(code)[:64])
        raise ProviderUnavailable


def _intent(said: Any) -> ProviderIntent:
    try:
        return IntentBody.model_validate(said).value()
    except ValidationError:
        raise ProviderUnavailable from None


def _refund(said: Any) -> ProviderRefund:
    try:
        return RefundBody.model_validate(said).value()
    except ValidationError:
        raise ProviderUnavailable from None
