"""The provider's messages, once their signature holds: read, checked against ours, applied.

An order is committed before its payment exists, so a message about an order that is unknown here is about nothing of
ours, or comes between the payment's creation and our noting its id: 404, and the provider delivers it again.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlmodel import Session

from platform_api.orders.queries import locked_order
from platform_api.orders.shelf import Shelf
from platform_api.payments.http_provider import IntentBody, RefundBody
from platform_api.payments.settling import apply_intent, apply_refund
from platform_api.payments.tables import Refund, WebhookReceipt
from platform_api.problems import Problem


class IntentEvent(BaseModel):
    """The state of a payment at the time of the message."""

    model_config = ConfigDict(strict=True)

    type: Literal["intent.succeeded", "intent.failed", "intent.cancelled", "intent.processing"]
    data: IntentBody


class RefundEvent(BaseModel):
    """The state of a refund at the time of the message."""

    model_config = ConfigDict(strict=True)

    type: Literal["refund.succeeded", "refund.failed", "refund.pending"]
    data: RefundBody


Event = Annotated[IntentEvent | RefundEvent, Field(discriminator="type")]
_EVENT: TypeAdapter[IntentEvent | RefundEvent] = TypeAdapter(Event)


def read(body: bytes) -> IntentEvent | RefundEvent:
    """Raises Problem (422) for what is no event, or whose type and state are two things."""
    try:
        event = _EVENT.validate_json(body)
    except ValidationError:
        raise Problem("invalid", "the body is no event of a payment or refund") from None
    if event.type.partition(".")[2] != event.data.status:
        raise Problem("invalid", "the type names another state than the data")
    return event


def apply_event(
    session: Session, shelf: Shelf, message_id: str, event: IntentEvent | RefundEvent, now: datetime
) -> bool:
    """Whether anything changed. Raises Problem: 404 for what is unknown here, 409 for what does not agree."""
    if isinstance(event, IntentEvent):
        subject = event.data.order_id
        order = locked_order(session, subject)
        if order is None or order.intent_id is None:
            raise Problem("not-found", "no such order with a payment is known here yet")
        changed = apply_intent(session, shelf, order, event.data.value(), now)
    else:
        subject = event.data.refund_id
        found = session.get(Refund, subject)
        if found is None:
            raise Problem("not-found", "no such refund is known here")
        order = locked_order(session, found.order_id)
        assert order is not None
        refund = session.get_one(Refund, subject, populate_existing=True)
        changed = apply_refund(session, shelf, order, refund, event.data.value(), now)
    if session.get(WebhookReceipt, message_id) is None:
        session.add(WebhookReceipt(id=message_id, type=event.type, subject_id=subject, received_at=now))
    return changed
