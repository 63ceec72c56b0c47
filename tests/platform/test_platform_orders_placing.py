from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import BigInteger, Integer, text

from platform_api.app import FEATURES
from platform_api.columns import metadata
from platform_api.orders.entitlements import is_entitled
from platform_api.orders.rules import CLOSED, OPEN, PAID, STATUSES, Contradiction, advance
from tests.money_cast import DECLINED, Market, thing
from tests.platform_cast import opened_shop


def test_an_order_keeps_the_prices_of_its_moment(market: Market) -> None:
    learner = market.shop.register()
    order = market.order(learner, "prd_course", "prd_book").json()
    assert (order["status"], order["total_minor"], order["currency"]) == ("pending", 2800, "CNY")
    assert order["pay_url"].endswith(order["intent_id"])
    market.rack.put(thing("prd_course", 9999, version=2))
    again = learner.get(f"/orders/{order['id']}").json()
    assert [(line["product_id"], line["price_minor"], line["version"]) for line in again["lines"]] == [
        ("prd_book", 801, 1),
        ("prd_course", 1999, 1),
    ]


def test_a_paid_order_grants_each_line_once(market: Market) -> None:
    learner = market.shop.register()
    market.sandbox.dials.duplicates = 2
    order = market.order(learner, "prd_course", "prd_book").json()
    market.card(order)
    assert market.owned(learner) == []
    assert market.deliver() == [204, 204, 204]
    assert sorted(market.owned(learner)) == ["prd_book", "prd_course"]
    assert learner.get(f"/orders/{order['id']}").json()["status"] == "paid"
    # 10 % of 1999 and of 801, rounded down, are the platform's.
    assert market.sums() == {"provider-clearing": 2800, "platform-fee": -279, "tenant-revenue": -2521}
    with market.shop.app.state.database.reading() as session:
        assert is_entitled(session, learner.id, "prd_course")
        assert is_entitled(session, learner.id, "prd_course", 1)
        assert not is_entitled(session, learner.id, "prd_course", 2)
        assert not is_entitled(session, learner.id, "prd_other")


def test_what_is_free_is_granted_without_the_provider(market: Market) -> None:
    learner = market.shop.register()
    market.sandbox.dials.lose_requests = 1
    order = market.order(learner, "prd_free")
    assert (order.status_code, order.json()["status"], order.json()["intent_id"]) == (201, "paid", None)
    assert market.owned(learner) == ["prd_free"]
    assert market.sandbox.dials.lose_requests == 1
    assert market.sums() == {}


def test_nobody_pays_twice_for_one_thing(market: Market) -> None:
    learner = market.shop.register()
    first = market.order(learner, "prd_course").json()
    second = market.order(learner, "prd_book", "prd_course")
    assert (second.status_code, second.json()["order_id"]) == (409, first["id"])
    assert market.count("orders") == 1
    market.card(first)
    market.deliver()
    assert market.order(learner, "prd_course").status_code == 409
    assert market.order(market.shop.register(), "prd_course").status_code == 201
    market.rack.put(thing("prd_course", version=2))
    assert market.order(learner, "prd_course").status_code == 201


def test_a_cancelled_order_leaves_its_things_to_the_next(market: Market) -> None:
    learner = market.shop.register()
    first = market.order(learner, "prd_talk", slot_id="slt_1").json()
    cancelled = learner.post(f"/orders/{first['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert learner.post(f"/orders/{first['id']}/cancel").status_code == 200
    assert market.card(first) == 422
    market.deliver()
    market.buy(learner, "prd_talk", slot_id="slt_1")
    assert market.count("entitlements") == 1


def test_a_paid_order_is_not_cancelled_even_when_its_message_was_lost(market: Market) -> None:
    learner = market.shop.register()
    order = market.order(learner, "prd_course").json()
    market.card(order)
    assert learner.post(f"/orders/{order['id']}/cancel").status_code == 409
    assert market.owned(learner) == ["prd_course"]


def test_one_slot_is_held_by_one_order(market: Market) -> None:
    one, other = market.shop.register(), market.shop.register()
    assert market.order(one, "prd_talk", slot_id="slt_1").status_code == 201
    assert market.order(other, "prd_talk", slot_id="slt_1").status_code == 409
    assert market.order(other, "prd_talk", slot_id="slt_2").status_code == 201
    assert market.order(one, "prd_talk", slot_id="slt_2").status_code == 409
    assert market.count("rack_slots") == 2


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 422),
        ([{"product_id": "prd_none"}], 404),
        ([{"product_id": "prd_course"}, {"product_id": "prd_course"}], 422),
        ([{"product_id": "prd_course"}, {"product_id": "prd_dollars"}], 422),
        ([{"product_id": "prd_talk"}], 422),
        ([{"product_id": "prd_talk", "slot_id": "slt_none"}], 404),
        ([{"product_id": "prd_talk", "slot_id": "slt_book"}], 422),
        ([{"product_id": "prd_book", "slot_id": "slt_book"}], 422),
        ([{"product_id": "prd\x00"}], 422),
        ([{"product_id": "prd_course", "price_minor": 1}], 422),
        ([{"product_id": f"prd_{number}"} for number in range(21)], 422),
    ],
)
def test_an_order_that_cannot_be_filled_leaves_nothing(market: Market, lines: list[Any], status: int) -> None:
    learner = market.shop.register()
    assert learner.post("/orders", {"lines": lines}, key="k").status_code == status
    assert [market.count(name) for name in ("orders", "entitlements", "rack_slots", "idempotent_requests")] == [0] * 4


def test_another_learners_order_does_not_exist(market: Market) -> None:
    learner, other = market.shop.register(), market.shop.register()
    order = market.order(learner, "prd_course").json()
    for answer in (
        other.get(f"/orders/{order['id']}"),
        other.post(f"/orders/{order['id']}/complete"),
        other.post(f"/orders/{order['id']}/cancel"),
        other.get(f"/orders/{order['id']}/refunds"),
    ):
        assert answer.status_code == 404
    assert other.get("/orders").json()["items"] == []
    assert learner.get(f"/orders/{order['id']}").json()["status"] == "pending"


def test_orders_are_listed_from_the_latest_in_pages(market: Market) -> None:
    learner = market.shop.register()
    made = []
    for name in ("prd_course", "prd_book", "prd_other"):
        made.append(market.order(learner, name).json()["id"])
        market.shop.clock.forward(seconds=1)
    page = learner.get("/orders?limit=2").json()
    rest = learner.get(f"/orders?limit=2&cursor={page['next_cursor']}").json()
    assert [entry["id"] for entry in page["items"] + rest["items"]] == made[::-1]


def test_a_declined_card_may_be_followed_by_a_good_one(market: Market) -> None:
    learner = market.shop.register()
    order = market.order(learner, "prd_course").json()
    market.card(order, DECLINED)
    market.deliver()
    assert learner.get(f"/orders/{order['id']}").json()["status"] == "failed"
    assert market.owned(learner) == []
    market.card(order)
    assert learner.post(f"/orders/{order['id']}/complete").json()["status"] == "paid"
    assert market.owned(learner) == ["prd_course"]


def test_payments_that_need_an_action_or_time_are_paid_in_the_end(market: Market) -> None:
    learner = market.shop.register()
    action = market.order(learner, "prd_course").json()
    market.card(action, "4000000000003220")
    assert learner.post(f"/orders/{action['id']}/complete").json()["status"] == "pending"
    market.sandbox.answer("POST", f"/intents/{action['intent_id']}/approve", {}, {}, b'{"approved": true}')
    delayed = market.order(learner, "prd_book").json()
    market.card(delayed, "4000000000000077")
    assert market.deliver() == [204, 204]
    assert market.owned(learner) == ["prd_course"]
    market.shop.clock.forward(seconds=11)
    market.deliver()
    assert sorted(market.owned(learner)) == ["prd_book", "prd_course"]


def test_the_states_of_an_order_only_move_towards_what_cannot_be_taken_back() -> None:
    for status in STATUSES:
        for payment in ("waiting", "failed", "succeeded", "cancelled"):
            try:
                after = advance(status, payment, expired=False)
            except Contradiction:
                assert (status in PAID, payment) in [(True, "cancelled"), (False, "succeeded")]
                continue
            assert after == status or (status in OPEN and after in STATUSES - {"refunded", "partly_refunded"})
            assert status not in PAID | CLOSED or after == status
            assert advance(after, payment, expired=True) == after


def test_money_is_whole_numbers_with_a_currency() -> None:
    tables = [table for table in metadata.tables.values() if any("_minor" in column.name for column in table.columns)]
    assert {table.name for table in tables} >= {"orders", "order_lines", "refunds", "postings"}
    for table in tables:
        assert "currency" in table.columns, table.name
        for column in table.columns:
            if column.name.endswith("_minor"):
                assert isinstance(column.type, BigInteger | Integer), f"{table.name}.{column.name}"


def test_an_erased_persons_orders_stay_as_nobodys(market: Market) -> None:
    learner = market.shop.register()
    paid = market.buy(learner, "prd_course")
    waiting = market.order(learner, "prd_book").json()
    database = market.shop.app.state.database
    with database.reading() as session:
        exported = {key: value for feature in FEATURES for key, value in feature.export(session, learner.id).items()}
    assert {order["id"] for order in exported["orders"]} == {paid["id"], waiting["id"]}
    assert {claim["product_id"] for claim in exported["entitlements"]} == {"prd_course", "prd_book"}
    with database.writing() as session:
        for feature in FEATURES:
            feature.erase(session, learner.id, market.shop.clock.now)
    with database.reading() as session:
        for name in ("orders", "order_lines", "entitlements", "idempotent_requests", "journals", "postings"):
            assert learner.id not in str(session.execute(text(f"SELECT * FROM {name}")).all()), name
    assert market.count("orders", "user_id IS NULL") == 2
    assert market.sums()["provider-clearing"] == 1999


def test_orders_say_when_they_run_out(market: Market) -> None:
    order = market.order(market.shop.register(), "prd_course").json()
    at = [datetime.fromisoformat(order[name]).astimezone(UTC) for name in ("created_at", "expires_at")]
    assert at[1] - at[0] == timedelta(minutes=30)


def test_without_a_catalogue_nothing_is_on_sale(settings_of: Any) -> None:
    with opened_shop(settings_of()) as shop:
        answer = shop.register().post("/orders", {"lines": [{"product_id": "prd_course"}]}, key="k")
        assert answer.status_code == 404
