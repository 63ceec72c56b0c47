from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from platform_api.orders.rules import share_of_fee
from platform_api.payments import ledger
from platform_api.payments.ledger import Entry, UnbalancedJournal
from platform_api.payments.reconcile import reconcile
from tests.money_cast import Market, thing


@pytest.fixture
def operator(market: Market) -> Any:
    return market.shop.register(None, "platform-operator")


def test_a_line_is_refunded_in_parts_until_nothing_is_left(market: Market, operator: Any) -> None:
    learner = market.shop.register()
    order = market.buy(learner, "prd_course", "prd_book")
    course = next(n for n, line in enumerate(order["lines"]) if line["product_id"] == "prd_course")
    assert market.refund(operator, order, 1000, line=course).json()["status"] == "succeeded"
    assert learner.get(f"/orders/{order['id']}").json()["status"] == "partly_refunded"
    assert sorted(market.owned(learner)) == ["prd_book", "prd_course"]
    beyond = market.refund(operator, order, 1000, line=course)
    assert (beyond.status_code, beyond.json()["rest_minor"]) == (409, 999)
    assert market.refund(operator, order, line=course).json()["amount_minor"] == 999
    assert market.refund(operator, order, line=course).status_code == 409
    assert market.owned(learner) == ["prd_book"]
    assert market.refund(operator, order, line=1 - course).status_code == 201
    assert learner.get(f"/orders/{order['id']}").json()["status"] == "refunded"
    assert [entry["status"] for entry in learner.get(f"/orders/{order['id']}/refunds").json()["items"]] == [
        "succeeded"
    ] * 3
    # All that was earned was taken back, to the smallest unit.
    assert {name: minor for name, minor in market.sums().items() if minor} == {
        "platform-fee": -279,
        "fee-refunds": 279,
        "tenant-revenue": -2521,
        "tenant-refunds": 2521,
    }
    market.buy(learner, "prd_course")


def test_a_slot_whose_line_is_refunded_in_full_can_be_booked_by_another(market: Market, operator: Any) -> None:
    learner, other = market.shop.register(), market.shop.register()
    order = market.buy(learner, "prd_talk", slot_id="slt_1")
    market.refund(operator, order, 2999)
    assert market.order(other, "prd_talk", slot_id="slt_1").status_code == 409
    assert market.refund(operator, order).json()["status"] == "succeeded"
    assert market.count("rack_slots") == 0
    market.buy(other, "prd_talk", slot_id="slt_1")
    # A message about the old refund that comes late takes nothing from the new holder.
    market.deliver()
    assert market.count("rack_slots") == 1
    assert market.owned(other) == ["prd_talk"]


@pytest.mark.parametrize("lost", ["lose_answers", "lose_requests"])
def test_a_lost_answer_and_a_retry_make_one_refund(market: Market, operator: Any, lost: str) -> None:
    order = market.buy(market.shop.register(), "prd_course")
    setattr(market.sandbox.dials, lost, 2)
    for _ in range(2):
        assert market.refund(operator, order, 700, key="k").status_code == 503
    assert market.count("refunds", "status = 'requested'") == 1
    # Whoever asks with another key meets what is reserved.
    assert market.refund(operator, order, 1300).status_code == 409
    done = market.refund(operator, order, 700, key="k")
    assert (done.status_code, done.json()["status"]) == (201, "succeeded")
    assert market.refund(operator, order, 700, key="k").json() == done.json()
    there = market.sandbox.books.all("SELECT amount_minor FROM refunds")
    assert [row["amount_minor"] for row in there] == [700]
    assert market.sums()["provider-clearing"] == 1299


def test_the_refund_is_committed_before_the_provider_is_asked_and_keeps_its_key(
    market: Market, operator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = market.buy(market.shop.register(), "prd_course")
    provider = market.shop.app.state.provider
    asked: list[tuple[str, str, int]] = []
    real = type(provider).refund

    def watched(self: Any, **told: Any) -> Any:
        asked.append((told["refund_id"], told["key"], market.count("refunds", f"id = '{told['refund_id']}'")))
        return real(self, **told)

    monkeypatch.setattr(type(provider), "refund", watched)
    market.sandbox.dials.lose_answers = 1
    assert market.refund(operator, order, key="k").status_code == 503
    assert market.refund(operator, order, key="k").status_code == 201
    assert len(asked) == 2
    assert len(set(asked)) == 1
    refund_id, key, committed = asked[0]
    assert (key, committed) == (f"refund-{refund_id}", 1)


def test_a_message_settles_a_refund_whose_answer_was_lost(market: Market, operator: Any) -> None:
    learner = market.shop.register()
    order = market.buy(learner, "prd_course")
    market.sandbox.dials.lose_answers, market.sandbox.dials.duplicates = 1, 1
    assert market.refund(operator, order, key="k").status_code == 503
    assert market.deliver() == [204, 204]
    assert market.owned(learner) == []
    assert market.refund(operator, order, key="k").json()["status"] == "succeeded"
    assert market.sums()["provider-clearing"] == 0
    assert market.sums()["refunds-pending"] == 0


def test_a_refund_that_takes_its_time_is_owed_meanwhile(market: Market, operator: Any) -> None:
    learner = market.shop.register()
    order = market.buy(learner, "prd_course")
    market.sandbox.dials.refunds = "pending"
    assert market.refund(operator, order).json()["status"] == "requested"
    assert market.owned(learner) == ["prd_course"]
    assert (market.sums()["refunds-pending"], market.sums()["provider-clearing"]) == (-1999, 1999)
    market.shop.clock.forward(seconds=11)
    market.deliver()
    assert market.owned(learner) == []
    assert (market.sums()["refunds-pending"], market.sums()["provider-clearing"]) == (0, 0)


def test_a_refund_that_the_provider_fails_may_be_asked_for_again(market: Market, operator: Any) -> None:
    learner = market.shop.register()
    order = market.buy(learner, "prd_course")
    market.sandbox.dials.refunds = "failed"
    assert market.refund(operator, order).json()["status"] == "failed"
    assert market.sums()["tenant-refunds"] == 0
    assert learner.get(f"/orders/{order['id']}").json()["status"] == "paid"
    market.sandbox.dials.refunds = "succeeded"
    assert market.refund(operator, order).json()["status"] == "succeeded"
    assert market.owned(learner) == []


@pytest.mark.parametrize(
    "change",
    [{"amount_minor": 1}, {"currency": "USD"}, {"intent_id": "int_other"}, {"id": "ref_other"}],
)
def test_a_refund_message_that_does_not_agree_changes_nothing(
    market: Market, operator: Any, change: dict[str, Any]
) -> None:
    learner = market.shop.register()
    order = market.buy(learner, "prd_course")
    market.sandbox.dials.refunds = "pending"
    market.refund(operator, order)
    there = market.sandbox.books.all("SELECT id, refund_id, intent_id, amount_minor, currency FROM refunds")[0]
    told = {"type": "refund.succeeded", "data": {**there, "status": "succeeded", **change}}
    assert market.tell(told).status_code == 409
    assert market.count("refunds", "status = 'requested'") == 1
    assert market.owned(learner) == ["prd_course"]
    assert market.tell({**told, "data": {**told["data"], **there}}).status_code == 204
    contradicting = {"type": "refund.failed", "data": {**there, "status": "failed"}}
    assert market.tell(contradicting).status_code == 409
    assert market.count("refunds", "status = 'succeeded'") == 1
    assert market.tell({**told, "data": {**told["data"], **there, "refund_id": "rfd_none"}}).status_code == 404


def test_a_tenants_operator_refunds_its_own_sales_only(market: Market) -> None:
    operator = market.shop.register(None, "platform-operator")
    tenants = [operator.post("/tenants", {"name": name}).json()["id"] for name in ("A", "B")]
    for name, tenant in zip(("prd_course", "prd_other"), tenants, strict=True):
        thing = market.rack.things[name]
        market.rack.put(type(thing)(**{**vars(thing), "seller_tenant_id": tenant}))
    seller = market.shop.register(None, "tenant-operator", tenant_id=tenants[0])
    learner = market.shop.register()
    order = market.buy(learner, "prd_course", "prd_other")
    assert [line["product_id"] for line in order["lines"]] == ["prd_course", "prd_other"]
    assert market.refund(seller, order, line=1).status_code == 404
    assert market.refund(seller, order, 5, line=0).status_code == 201
    assert market.refund(operator, order, 7, line=1).status_code == 201
    assert market.refund(learner, order, 5, line=0).status_code == 403
    seen = seller.get(f"/orders/{order['id']}/refunds").json()["items"]
    assert [refund["amount_minor"] for refund in seen] == [5]
    sales = seller.get("/sales").json()["items"]
    assert [(sale["product_id"], sale["price_minor"], sale["fee_minor"]) for sale in sales] == [
        ("prd_course", 1999, 199)
    ]
    assert learner.id not in str(sales)
    foreign = market.shop.register(None, "tenant-operator", tenant_id=tenants[1])
    assert [sale["product_id"] for sale in foreign.get("/sales").json()["items"]] == ["prd_other"]


def test_what_was_not_paid_is_not_refunded(market: Market, operator: Any) -> None:
    learner = market.shop.register()
    assert market.refund(operator, market.order(learner, "prd_course").json()).status_code == 409
    order = market.buy(learner, "prd_book")
    for amount in (0, -1, 2.5, "1", True, 2**60):
        assert market.refund(operator, order, amount).status_code == 422  # type: ignore[arg-type]
    other = market.buy(market.shop.register(), "prd_course")
    assert market.refund(operator, {**order, "lines": other["lines"]}).status_code == 404
    assert market.count("refunds") == 0


def test_parts_of_the_fee_add_up_to_the_fee() -> None:
    for price, fee in ((1999, 199), (3, 1), (7, 7), (100, 0), (1, 1)):
        for part in (1, 2, price):
            given = fees = 0
            while given < price:
                amount = min(part, price - given)
                share = share_of_fee(price, fee, (given, fees), amount)
                assert 0 <= share <= amount
                given, fees = given + amount, fees + share
            assert fees == fee


@pytest.mark.parametrize("table", ["journals", "postings"])
@pytest.mark.parametrize("change", ["UPDATE {} SET {} = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_ledger_is_only_ever_added_to(market: Market, table: str, change: str) -> None:
    market.buy(market.shop.register(), "prd_course")
    database = market.shop.app.state.database
    if change.startswith("TRUNCATE") and database.is_sqlite:
        return  # SQLite has no such statement
    column = "kind" if table == "journals" else "account"
    before = market.sums()
    with pytest.raises(DBAPIError, match="append-only"), database.writing() as session:
        session.execute(text(change.format(table, column)))
    assert market.sums() == before
    assert market.count(table) > 0


def test_a_journal_sums_to_zero_in_each_currency_and_is_booked_once(market: Market) -> None:
    now = market.shop.clock.now
    debit = Entry(account="provider-clearing", minor=5, currency="CNY")
    wrong = [[debit], [debit, Entry(account="platform-fee", minor=-5, currency="USD")]]
    right = [debit, Entry(account="platform-fee", minor=-5, currency="CNY")]
    with market.shop.app.state.database.writing() as session:
        for entries in wrong:
            with pytest.raises(UnbalancedJournal):
                ledger.book(session, "sale", "ord_1", "ord_1", entries, now)
        assert ledger.book(session, "sale", "ord_1", "ord_1", right, now)
        assert not ledger.book(session, "sale", "ord_1", "ord_1", right, now)
        assert ledger.unbalanced_journals(session) == []
    assert market.sums() == {"provider-clearing": 5, "platform-fee": -5}


def test_operators_read_the_balances(market: Market, operator: Any) -> None:
    learner = market.shop.register()
    market.buy(learner, "prd_course", "prd_other")
    items = operator.get("/ledger/balances").json()["items"]
    assert sum(item["minor"] for item in items) == 0
    assert {(item["account"], item["tenant_id"]): item["minor"] for item in items} == {
        ("platform-fee", ""): -249,
        ("provider-clearing", ""): 2499,
        ("tenant-revenue", "tnt_a"): -1800,
        ("tenant-revenue", "tnt_b"): -450,
    }
    first = operator.get("/ledger/balances?limit=3").json()
    rest = operator.get("/ledger/balances", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert (first["items"] + rest["items"], rest["has_more"]) == (items, False)
    assert learner.get("/ledger/balances").status_code == 403


def test_what_cost_nothing_is_given_back_without_any_money(market: Market, operator: Any) -> None:
    learner = market.shop.register()
    market.rack.put(thing("prd_chat", 0, kind="consulting"), thing("prd_gift", 0))
    market.rack.slots["slt_free"] = "prd_chat"
    chat = market.order(learner, "prd_chat", slot_id="slt_free").json()
    first = market.refund(operator, chat, key="free")
    assert (first.status_code, first.json()["amount_minor"], first.json()["status"]) == (201, 0, "succeeded")
    assert market.refund(operator, chat, key="free").json() == first.json()
    assert market.refund(operator, chat).status_code == 409
    assert learner.get(f"/orders/{chat['id']}").json()["status"] == "refunded"
    assert market.owned(learner) == []
    assert market.order(market.shop.register(), "prd_chat", slot_id="slt_free").status_code == 201
    # Two of them one by one; and what was given back may be taken again.
    pair = market.order(learner, "prd_free", "prd_gift").json()
    assert market.refund(operator, pair, 1).status_code == 409
    for line, status in ((0, "partly_refunded"), (1, "refunded")):
        assert market.refund(operator, pair, line=line).status_code == 201
        assert learner.get(f"/orders/{pair['id']}").json()["status"] == status
    assert market.order(learner, "prd_free").status_code == 201
    assert market.owned(learner) == ["prd_free"]
    assert market.count("journals") == market.count("postings") == 0
    assert market.sandbox.books.all("SELECT id FROM refunds") == []
    assert reconcile(market.till, market.shop.clock.now).findings == ()


def test_a_line_that_cost_nothing_among_others_is_given_back_alone(market: Market, operator: Any) -> None:
    learner = market.shop.register()
    order = market.buy(learner, "prd_book", "prd_free")
    free = next(place for place, line in enumerate(order["lines"]) if line["product_id"] == "prd_free")
    assert market.refund(operator, order, line=free).status_code == 201
    assert (market.owned(learner), learner.get(f"/orders/{order['id']}").json()["status"]) == (["prd_book"], "paid")
    assert market.refund(operator, order, line=1 - free).json()["amount_minor"] == 801
    assert (market.owned(learner), learner.get(f"/orders/{order['id']}").json()["status"]) == ([], "refunded")
    assert reconcile(market.till, market.shop.clock.now).findings == ()


def test_what_cost_nothing_is_given_back_by_those_who_may_refund_and_nobody_else(market: Market, operator: Any) -> None:
    tenants = [operator.post("/tenants", {"name": name}).json()["id"] for name in ("A", "B")]
    market.rack.put(thing("prd_gift", 0, seller_tenant_id=tenants[0]))
    seller, foreign = (market.shop.register(None, "tenant-operator", tenant_id=tenant) for tenant in tenants)
    learner = market.shop.register()
    order = market.order(learner, "prd_gift").json()
    assert market.refund(learner, order).status_code == 403
    assert market.refund(foreign, order).status_code == 404
    assert market.owned(learner) == ["prd_gift"]
    assert market.refund(seller, order).status_code == 201
    assert market.owned(learner) == []
