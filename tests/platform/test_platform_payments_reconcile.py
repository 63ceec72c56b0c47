import json
from typing import Any

import pytest
from sqlalchemy import text

from platform_api.payments.reconcile import Report, reconcile
from tests.money_cast import Market


def run(market: Market, **more: Any) -> Report:
    return reconcile(market.till, market.shop.clock.now, **more)


def kinds(report: Report) -> list[tuple[str, str]]:
    return sorted((finding.kind, finding.action) for finding in report.findings)


def test_two_sides_that_agree_give_an_empty_report(market: Market) -> None:
    operator = market.shop.register(None, "platform-operator")
    order = market.buy(market.shop.register(), "prd_course", "prd_book")
    market.refund(operator, order, 5)
    market.order(market.shop.register(), "prd_course")
    report = run(market)
    assert (report.intents_seen, report.refunds_seen, report.findings, report.clean) == (2, 1, (), True)


def test_a_payment_whose_message_never_came_is_found(market: Market) -> None:
    learner = market.shop.register()
    market.card(market.order(learner, "prd_course").json())
    report = run(market)
    assert kinds(report) == [("paid-there-open-here", "corrected")]
    assert report.clean
    assert market.owned(learner) == ["prd_course"]
    assert run(market).findings == ()
    market.deliver()
    assert market.sums()["provider-clearing"] == 1999


def test_a_payment_whose_creation_was_not_heard_of_is_found(market: Market) -> None:
    learner = market.shop.register()
    market.sandbox.dials.lose_answers = 1
    assert market.order(learner, "prd_course").status_code == 503
    assert kinds(run(market)) == [("intent-not-noted", "corrected")]
    order = learner.get("/orders").json()["items"][0]
    assert order["pay_url"].endswith(order["intent_id"])
    assert run(market).findings == ()


def test_overdue_orders_are_cancelled_on_both_sides(market: Market) -> None:
    learner = market.shop.register()
    market.order(learner, "prd_talk", slot_id="slt_1")
    market.sandbox.dials.lose_requests = 1
    assert market.order(learner, "prd_course").status_code == 503
    paid_late = market.order(learner, "prd_book").json()
    market.shop.clock.forward(minutes=31)
    market.card(paid_late)
    assert kinds(run(market)) == [("overdue", "corrected")] * 2 + [("paid-there-open-here", "corrected")]
    assert sorted(entry["status"] for entry in learner.get("/orders").json()["items"]) == ["expired", "expired", "paid"]
    there = market.sandbox.books.all("SELECT status FROM intents ORDER BY status")
    assert [row["status"] for row in there] == ["cancelled", "cancelled", "succeeded"]
    assert market.count("rack_slots") == 0
    assert run(market).findings == ()
    market.buy(learner, "prd_talk", slot_id="slt_1")


def test_a_refund_that_got_lost_is_made_once(market: Market) -> None:
    operator = market.shop.register(None, "platform-operator")
    learner = market.shop.register()
    for lost in ("lose_requests", "lose_answers"):
        order = market.buy(learner, "prd_course")
        setattr(market.sandbox.dials, lost, 1)
        assert market.refund(operator, order).status_code == 503
        assert kinds(run(market)) == [("refund-lost", "corrected")]
        assert market.owned(learner) == []
    assert run(market).findings == ()
    assert len(market.sandbox.books.all("SELECT id FROM refunds")) == 2
    assert market.sums()["provider-clearing"] == 0


def test_what_contradicts_is_flagged_and_left_alone(market: Market) -> None:
    learner = market.shop.register()
    books = market.sandbox.books
    changed = market.order(learner, "prd_course").json()
    market.card(changed)
    books.do("UPDATE intents SET amount_minor = 1 WHERE id = ?", changed["intent_id"])
    closed = market.order(learner, "prd_book").json()
    learner.post(f"/orders/{closed['id']}/cancel")
    books.do("UPDATE intents SET status = 'succeeded' WHERE id = ?", closed["intent_id"])
    gone = market.buy(market.shop.register(), "prd_course")
    books.do("DELETE FROM intents WHERE id = ?", gone["intent_id"])
    provider = market.shop.app.state.provider
    from platform_api.payments.provider import Money

    provider.create_intent(order_id="ord_none", amount=Money(minor=5, currency="CNY"), key="a key of its own")
    bought = market.buy(market.shop.register(), "prd_course")
    amount = Money(minor=5, currency="CNY")
    provider.refund(intent_id=bought["intent_id"], refund_id="rfd_none", amount=amount, key="another")
    market.refund(market.shop.register(None, "platform-operator"), bought, 7)
    books.do("DELETE FROM refunds WHERE amount_minor = 7")
    before = (market.sums(), market.count("journals"), learner.get("/orders").json())
    report = run(market)
    assert kinds(report) == [
        ("books-differ", "flagged"),
        ("order-unknown-here", "flagged"),
        ("paid-here-not-there", "flagged"),
        ("paid-there-closed-here", "flagged"),
        ("refund-here-not-there", "flagged"),
        ("refund-unknown-here", "flagged"),
        ("states-differ", "flagged"),
    ]
    assert not report.clean
    assert run(market).findings == report.findings
    assert (market.sums(), market.count("journals"), learner.get("/orders").json()) == before


def test_a_journal_that_does_not_balance_is_named(market: Market) -> None:
    market.buy(market.shop.register(), "prd_course")
    with market.shop.app.state.database.writing() as session:
        added = "INSERT INTO postings SELECT journal_id, 9, 'platform-fee', '', '', 3, 'CNY' FROM postings LIMIT 1"
        session.execute(text(added))
    assert kinds(run(market)) == [("journal-unbalanced", "flagged")]


def test_only_what_changed_since_is_read(market: Market) -> None:
    learner = market.shop.register()
    market.buy(learner, "prd_course")
    market.shop.clock.forward(hours=1)
    market.card(market.order(learner, "prd_book").json())
    report = run(market, since=market.shop.clock.now)
    assert (report.intents_seen, kinds(report)) == (1, [("paid-there-open-here", "corrected")])


def test_long_lists_are_read_to_their_end(market: Market) -> None:
    from platform_api.payments.provider import Money

    provider = market.shop.app.state.provider
    for number in range(205):
        provider.create_intent(order_id=f"ord_{number}", amount=Money(minor=5, currency="CNY"), key=f"k{number}")
    assert run(market).intents_seen == 205


def test_operators_reconcile_and_an_absent_provider_is_said(market: Market) -> None:
    operator = market.shop.register(None, "platform-operator")
    learner = market.shop.register()
    market.card(market.order(learner, "prd_course").json())
    assert learner.post("/reconciliations", {}).status_code == 403
    report = operator.post("/reconciliations", {}).json()
    assert (report["clean"], [entry["kind"] for entry in report["findings"]]) == (True, ["paid-there-open-here"])
    assert operator.post("/reconciliations", {"since": "2030-01-01T00:00:00Z"}).json()["findings"] == []
    assert operator.post("/reconciliations", {"since": "2030-01-01T00:00:00"}).status_code == 422
    market.sandbox._api_key = "another"
    answer = operator.post("/reconciliations", {})
    assert (answer.status_code, json.loads(answer.text)["type"].rpartition("/")[2]) == (503, "provider-unavailable")
    assert learner.post(f"/orders/{learner.get('/orders').json()['items'][0]['id']}/complete").status_code == 200


def test_an_open_order_of_an_erased_person_is_cancelled(market: Market) -> None:
    from platform_api.orders.service import erase_orders

    learner = market.shop.register()
    order = market.order(learner, "prd_course").json()
    with market.shop.app.state.database.writing() as session:
        erase_orders(session, learner.id, market.shop.clock.now)
    assert kinds(run(market)) == [("overdue", "corrected")]
    assert market.card(order) == 422


def _erased_while_paying(market: Market, *product_ids: str, **more: Any) -> str:
    """The id of an order whose buyer was erased after paying at the provider, before the message came."""
    from platform_api.orders.service import erase_orders

    learner = market.shop.register()
    order = market.order(learner, *product_ids, **more).json()
    with market.shop.app.state.database.writing() as session:
        erase_orders(session, learner.id, market.shop.clock.now)
    assert market.card(order) == 200
    return str(order["id"])


@pytest.mark.parametrize("by_message", [True, False])
def test_what_an_erased_person_pays_is_given_back(market: Market, by_message: bool) -> None:
    order_id = _erased_while_paying(market, "prd_course", "prd_book")
    if by_message:
        assert market.deliver() == [204]
        assert market.count("refunds", "status = 'requested'") == 2
        found = [("paid-for-nobody", "corrected")] * 2
    else:
        found = [("paid-for-nobody", "corrected")] * 2 + [("paid-there-open-here", "corrected")]
    report = run(market)
    assert kinds(report) == found
    assert report.clean
    assert market.count("orders", f"id = '{order_id}' AND status = 'refunded'") == 1
    there = market.sandbox.books.all("SELECT amount_minor FROM refunds ORDER BY amount_minor")
    assert [row["amount_minor"] for row in there] == [801, 1999]
    assert (market.sums()["provider-clearing"], market.sums()["refunds-pending"]) == (0, 0)
    market.deliver()
    assert run(market).findings == ()


def test_what_cannot_be_given_back_to_an_erased_person_is_flagged_until_it_is(market: Market) -> None:
    order_id = _erased_while_paying(market, "prd_talk", slot_id="slt_1")
    market.sandbox.dials.refunds = "failed"
    for _ in range(2):
        report = run(market)
        assert ("paid-for-nobody", "flagged") in kinds(report)
        assert not report.clean
    market.sandbox.dials.refunds = "succeeded"
    operator = market.shop.register(None, "platform-operator")
    with market.shop.app.state.database.reading() as session:
        line = session.execute(text(f"SELECT id FROM order_lines WHERE order_id = '{order_id}'")).scalar_one()
    assert market.refund(operator, {"id": order_id, "lines": [{"id": line}]}).status_code == 201
    assert run(market).clean
    assert market.count("rack_slots") == 0


def test_an_order_that_was_paid_before_its_buyer_was_erased_stays_paid(market: Market) -> None:
    from platform_api.orders.service import erase_orders

    learner = market.shop.register()
    market.buy(learner, "prd_course")
    with market.shop.app.state.database.writing() as session:
        erase_orders(session, learner.id, market.shop.clock.now)
    assert run(market).findings == ()
    assert market.count("refunds") == 0
