"""The provider's message and the learner's return from its page, truly at once: over loopback, from threads."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from platform_api.orders import rules
from platform_api.payments import settling
from tests.money_cast import Market, thing
from tests.platform_cast import API
from tests.platform_on_loopback import free_port, served

ROUNDS = 6
EACH = 2  # of each kind: a message is delivered twice when its answer is late, and people press buttons again


def test_messages_and_completions_at_the_same_time_make_one_sale(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[tuple[str, str]] = []

    def advance(status: str, payment: str, *, expired: bool) -> str:
        # Whoever else reads the order meanwhile reads what it was.
        time.sleep(0.01)
        judged.append((status, payment))
        return rules.advance(status, payment, expired=expired)

    monkeypatch.setattr(settling, "advance", advance)
    learner = market.shop.register()
    market.rack.put(*(thing(f"prd_{number}") for number in range(ROUNDS)))
    start = threading.Barrier(2 * EACH)
    with (
        served(market.shop.app, free_port()) as url,
        ThreadPoolExecutor(2 * EACH) as pool,
        httpx.Client(base_url=url, timeout=30, trust_env=False) as http,
    ):

        def send(path: str, **told: Any) -> int:
            start.wait(10)
            return http.post(API + path, **told).status_code

        for number in range(ROUNDS):
            order = market.order(learner, f"prd_{number}").json()
            assert market.card(order) == 200
            sent: list[tuple[dict[str, str], bytes]] = []
            market.sandbox.step(lambda headers, body, sent=sent: sent.append((headers, body)) or 204)  # type: ignore[misc]
            ((headers, body),) = sent
            completing = [
                pool.submit(send, f"/orders/{order['id']}/complete", headers=learner.headers) for _ in range(EACH)
            ]
            telling = [pool.submit(send, "/webhooks/payments", content=body, headers=headers) for _ in range(EACH)]
            assert [asked.result(30) for asked in completing] == [200] * EACH
            assert [told.result(30) for told in telling] == [204] * EACH
    with market.shop.app.state.database.reading() as session:
        # The order's revision: its payment is noted, and it is paid.
        orders = session.execute(text("SELECT DISTINCT status, revision FROM orders")).all()
        sales = session.execute(text("SELECT order_id, kind FROM journals")).all()
    assert orders == [("paid", 3)]
    # Only one found each order open; the uniqueness of what is booked would hide that more had.
    assert judged.count(("pending", "succeeded")) == ROUNDS
    assert (len(sales), len(set(sales)), {sale.kind for sale in sales}) == (ROUNDS, ROUNDS, {"sale"})
    assert market.count("entitlements") == market.count("entitlements", "status = 'active'") == ROUNDS
    assert market.count("webhook_receipts") == ROUNDS
    assert market.sums()["provider-clearing"] == ROUNDS * 1999
