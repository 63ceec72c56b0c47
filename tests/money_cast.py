"""A shop with things to sell and a provider to pay at, whose messages go out when a test says so."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

import httpx
from httpx2 import Response
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from platform_api.orders.checkout import Till
from platform_api.orders.service import Terms
from platform_api.orders.shelf import Sellable
from platform_api.payments.http_provider import HttpProvider
from platform_api.problems import Problem
from platform_api.sandbox.provider import Sandbox
from platform_api.settings import Settings
from tests.platform_cast import API, Hand, Person, Shop, opened_shop

GOOD_CARD = "4242424242424242"
DECLINED = "4000000000000002"
SECRET = "whsec_dGVzdHMgb2YgdGhlIHBsYXRmb3Jt"
KEY = "the key of a shop in tests"


def thing(product_id: str, price_minor: int = 1999, **more: Any) -> Sellable:
    told = {"version": 1, "kind": "course", "title": "隐私计算", "currency": "CNY", "seller_tenant_id": "tnt_a", **more}
    return Sellable(product_id=product_id, price_minor=price_minor, **told)


@dataclass
class Rack:
    """A catalogue in memory; slots are in a table whose key decides who gets one."""

    things: dict[str, Sellable] = field(default_factory=dict)
    slots: dict[str, str] = field(default_factory=dict)

    def put(self, *things: Sellable) -> None:
        self.things.update({thing.product_id: thing for thing in things})

    def prepare(self, session: Session) -> None:
        session.execute(text("CREATE TABLE IF NOT EXISTS rack_slots (slot_id TEXT PRIMARY KEY, order_id TEXT)"))

    def sellable(self, session: Session, product_id: str) -> Sellable:
        if product_id not in self.things:
            raise Problem("not-found", "no such product is on sale")
        return self.things[product_id]

    def hold_slot(self, session: Session, slot_id: str, order_id: str, now: datetime) -> str:
        if slot_id not in self.slots:
            raise Problem("not-found", "no such slot")
        try:
            with session.begin_nested():
                held = {"slot": slot_id, "order": order_id}
                session.execute(text("INSERT INTO rack_slots VALUES (:slot, :order)"), held)
        except IntegrityError:
            raise Problem("conflict", "the slot is taken") from None
        return self.slots[slot_id]

    def release_slot(self, session: Session, slot_id: str, order_id: str) -> None:
        held = {"slot": slot_id, "order": order_id}
        session.execute(text("DELETE FROM rack_slots WHERE slot_id = :slot AND order_id = :order"), held)


def transport_to(sandbox: Sandbox) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        status, said = sandbox.answer(
            request.method, request.url.path, dict(request.url.params), headers, request.content
        )
        return httpx.Response(status, json=said)

    return httpx.MockTransport(handle)


def provider_of(sandbox: Sandbox) -> HttpProvider:
    headers = {"Authorization": f"Bearer {KEY}"}
    client = httpx.Client(base_url="http://provider", transport=transport_to(sandbox), headers=headers)
    return HttpProvider(client)


@dataclass
class Market:
    """The shop, its rack, the provider, and what people do there."""

    shop: Shop
    rack: Rack
    sandbox: Sandbox
    _keys: Iterator[int] = field(default_factory=count)

    @property
    def till(self) -> Till:
        state = self.shop.app.state
        terms = Terms(minutes=state.settings.order_minutes, fee_basis_points=state.settings.platform_fee_basis_points)
        return Till(database=state.database, provider=state.provider, shelf=self.rack, terms=terms)

    def order(self, person: Person, *product_ids: str, key: str | None = None, slot_id: str | None = None) -> Response:
        lines = [{"product_id": product_id, "slot_id": slot_id} for product_id in product_ids]
        return person.post("/orders", {"lines": lines}, key=key or f"key-{next(self._keys)}")

    def card(self, order: dict[str, Any], card: str = GOOD_CARD) -> int:
        path, body = f"/intents/{order['intent_id']}/confirm", json.dumps({"card": card}).encode()
        return self.sandbox.answer("POST", path, {}, {}, body)[0]

    def buy(self, person: Person, *product_ids: str, **more: Any) -> dict[str, Any]:
        """An order that is paid, by its message."""
        order: dict[str, Any] = self.order(person, *product_ids, **more).json()
        assert self.card(order) == 200
        self.deliver()
        paid: dict[str, Any] = person.get(f"/orders/{order['id']}").json()
        assert paid["status"] == "paid", paid
        return paid

    def post_message(self, headers: dict[str, str], body: bytes) -> Response:
        encoded = {name: value.encode() for name, value in headers.items()}
        return self.shop.http.post(f"{API}/webhooks/payments", content=body, headers=encoded)

    def deliver(self) -> list[int]:
        """Deliver what is due; the statuses that were answered."""
        answered: list[int] = []

        def send(headers: dict[str, str], body: bytes) -> int:
            answered.append(self.post_message(headers, body).status_code)
            return answered[-1]

        self.sandbox.step(send)
        return answered

    def tell(self, event: dict[str, Any], message_id: str = "msg_1") -> Response:
        """A well-signed message with any content."""
        body = json.dumps(event)
        return self.post_message(self.sandbox.signed(message_id, body), body.encode())

    def refund(self, person: Person, order: dict[str, Any], amount: int | None = None, **more: Any) -> Response:
        line = order["lines"][more.pop("line", 0)]["id"]
        wish = {"line_id": line, "amount_minor": amount}
        return person.post(f"/orders/{order['id']}/refunds", wish, key=more.get("key") or f"key-{next(self._keys)}")

    def owned(self, person: Person) -> list[str]:
        return [entry["product_id"] for entry in person.get("/me/entitlements").json()["items"]]

    def count(self, table: str, where: str = "1 = 1") -> int:
        with self.shop.app.state.database.reading() as session:
            found: int = session.execute(text(f"SELECT COUNT(*) FROM {table} WHERE {where}")).scalar_one()
        return found

    def sums(self) -> dict[str, int]:
        """Balances in CNY of all tenants together, by account; asserts that they are zero in all."""
        with self.shop.app.state.database.reading() as session:
            rows = session.execute(text("SELECT account, SUM(amount_minor) FROM postings GROUP BY account")).all()
        found = {account: int(minor) for account, minor in rows}
        assert sum(found.values()) == 0
        return found


@contextmanager
def opened_market(settings: Settings) -> Iterator[Market]:
    clock, rack = Hand(), Rack()
    sandbox = Sandbox(webhook_secret=SECRET, api_key=KEY, clock=clock)
    rack.put(thing("prd_course"), thing("prd_book", 801, kind="e-book"), thing("prd_free", 0))
    rack.put(thing("prd_other", 500, seller_tenant_id="tnt_b"), thing("prd_talk", 3000, kind="consulting"))
    rack.put(thing("prd_dollars", 700, currency="USD"))
    rack.slots.update({"slt_1": "prd_talk", "slt_2": "prd_talk", "slt_book": "prd_book"})
    provider = provider_of(sandbox)
    with opened_shop(settings, clock, provider=provider, shelf=rack) as shop:
        with shop.app.state.database.writing() as session:
            rack.prepare(session)
        yield Market(shop, rack, sandbox)
    provider.close()
    sandbox.books.close()
