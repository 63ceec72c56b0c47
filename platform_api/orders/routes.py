"""Routes of orders and of what they grant."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Response

from platform_api.access import ANY_PERSON, KnownCaller, Rule, access
from platform_api.clock import Now
from platform_api.cursors import Page, Paging
from platform_api.database import ReadSession
from platform_api.etags import revision_etag, state_etag
from platform_api.idempotency import OnceOnly
from platform_api.orders import queries, service
from platform_api.orders.entitlements import entitlements_after
from platform_api.orders.schemas import EntitlementEntry, NewOrder, OrderEntry, SaleEntry
from platform_api.orders.tables import Order, OrderLine
from platform_api.orders.till import TheTill
from platform_api.problems import Problem

orders = APIRouter(tags=["orders"])
OrderId = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
SELLERS = Rule(roles=("tenant-operator",), people_only=True)


@orders.post("/orders", status_code=201, response_model=OrderEntry, **access(ANY_PERSON))
def place_order(wish: NewOrder, caller: KnownCaller, once: OnceOnly, till: TheTill, now: Now) -> Response:
    """Order products at the prices of this moment. Needs an Idempotency-Key; `pay_url` is where to pay."""
    return once.run_steps(till.placing(caller.id, wish, now))


@orders.get("/orders", **access(ANY_PERSON))
def my_orders(response: Response, caller: KnownCaller, paging: Paging, session: ReadSession) -> Page[OrderEntry]:
    """The own orders, the latest first."""
    before = None if paging.after is None else (datetime.fromisoformat(paging.after[0]), str(paging.after[1]))
    rows = queries.orders_before(session, caller.id, before, paging.limit + 1)
    return paging.page(
        response, rows, lambda row: (row.created_at.isoformat(), row.id), lambda row: service.shown(session, row)
    )


@orders.get("/orders/{order_id}", **access(ANY_PERSON))
def my_order(order_id: OrderId, response: Response, caller: KnownCaller, session: ReadSession) -> OrderEntry:
    """One of the own orders."""
    order = queries.order_of(session, order_id, caller.id)
    if order is None:
        raise Problem("not-found", "no such order")
    state_etag(response, revision_etag(order.id, order.revision))
    return service.shown(session, order)


@orders.post("/orders/{order_id}/complete", **access(ANY_PERSON))
def complete_order(order_id: OrderId, caller: KnownCaller, till: TheTill, now: Now) -> OrderEntry:
    """Come back from paying: asks the provider how the payment stands. May be called any number of times."""
    return till.complete(caller.id, order_id, now)


@orders.post("/orders/{order_id}/cancel", **access(ANY_PERSON))
def cancel_order(order_id: OrderId, caller: KnownCaller, till: TheTill, now: Now) -> OrderEntry:
    """Cancel an open order; 409 when it turns out to be paid."""
    return till.cancel(caller.id, order_id, now)


@orders.get("/me/entitlements", **access(ANY_PERSON))
def my_entitlements(
    response: Response, caller: KnownCaller, paging: Paging, session: ReadSession
) -> Page[EntitlementEntry]:
    """What one may use, by id."""
    rows = entitlements_after(session, caller.id, paging.after_id, paging.limit + 1)
    return paging.page(
        response, rows, lambda row: (row.id,), lambda row: EntitlementEntry.model_validate(row, from_attributes=True)
    )


@orders.get("/sales", **access(SELLERS))
def sales(response: Response, caller: KnownCaller, paging: Paging, session: ReadSession) -> Page[SaleEntry]:
    """Paid lines of the own tenant, by id; who bought is not said."""
    rows = queries.sales_after(session, caller.tenant_id, paging.after_id, paging.limit + 1) if caller.tenant_id else []
    return paging.page(response, rows, lambda row: (row[0].id,), _sale)


def _sale(row: tuple[OrderLine, Order]) -> SaleEntry:
    line, order = row
    assert order.paid_at is not None
    return SaleEntry(
        **line.model_dump(include={"order_id", "product_id", "version", "title", "price_minor", "fee_minor"}),
        currency=line.currency,
        line_id=line.id,
        order_status=order.status,  # type: ignore[arg-type]
        paid_at=order.paid_at,
    )
