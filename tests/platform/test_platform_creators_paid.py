"""What creators without a tenant earn: each on an account of their own, which outlives them and names nobody."""

from collections import Counter
from contextlib import nullcontext
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from platform_api.accounts.service import erase_account
from platform_api.joints import CatalogueShelf
from platform_api.orders import sellers
from platform_api.problems import Problem
from tests import catalogue_cast
from tests.money_cast import Market, thing
from tests.platform.test_platform_many_at_once import at_once
from tests.platform_cast import API, PASSWORD, Person, Shop


def maker(market: Market, product_id: str, price_minor: int = 1000, **more: Any) -> Person:
    """A creator without a tenant, with a product on the rack."""
    person = market.shop.register(None, "creator")
    market.rack.put(thing(product_id, price_minor, seller_tenant_id="", creator_user_id=person.id, **more))
    return person


def account(person: Person) -> dict[str, Any]:
    answer = person.get("/me/creator-account")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def owed(market: Market) -> dict[tuple[str, str, str], int]:
    operator = market.shop.register(None, "platform-operator")
    items = operator.get("/ledger/balances?limit=100").json()["items"]
    return {
        (entry["account"], entry["tenant_id"], entry["creator_account_id"]): entry["minor"]
        for entry in items
        if entry["account"].startswith(("tenant-", "creator-"))
    }


def test_each_creator_is_owed_their_share_on_an_account_of_their_own(market: Market) -> None:
    wang, lin, idle = maker(market, "prd_wang"), maker(market, "prd_lin", 500), maker(market, "prd_idle")
    learner = market.shop.register()
    market.order(learner, "prd_idle")
    order = market.buy(learner, "prd_course", "prd_lin", "prd_wang")
    operator = market.shop.register(None, "platform-operator")
    assert market.refund(operator, order, 100, line=2).status_code == 201
    ids = {person.id: account(person)["id"] for person in (wang, lin, idle)}
    assert len(set(ids.values()) | {""}) == 4
    assert not any(person in number for person in ids for number in ids.values())
    assert account(wang)["items"] == [{"currency": "CNY", "earned_minor": 900, "refunded_minor": 90, "owed_minor": 810}]
    assert account(lin)["items"][0]["owed_minor"] == 450
    assert account(idle)["items"] == []
    assert owed(market) == {
        ("tenant-revenue", "tnt_a", ""): -1800,
        ("creator-revenue", "", ids[wang.id]): -900,
        ("creator-refunds", "", ids[wang.id]): 90,
        ("creator-revenue", "", ids[lin.id]): -450,
    }
    market.sums()
    assert wang.get("/me/export").json()["features"]["payments"]["creator_account"] == account(wang)
    assert learner.get("/me/creator-account").status_code == 403


def test_what_a_creator_is_owed_outlives_them_and_names_nobody(market: Market) -> None:
    wang = maker(market, "prd_wang")
    learner, late = market.shop.register(), market.shop.register()
    paid = market.buy(learner, "prd_wang")
    open_order = market.order(late, "prd_wang").json()
    number = account(wang)["id"]
    assert wang.post("/me/erase", {"password": PASSWORD}).status_code == 200
    assert market.count("creator_accounts", f"id = '{number}' AND user_id IS NULL") == 1
    assert owed(market) == {("creator-revenue", "", number): -900}
    # What was begun before is booked to the same account.
    assert market.card(open_order) == 200
    market.deliver()
    operator = market.shop.register(None, "platform-operator")
    assert market.refund(operator, paid).status_code == 201
    assert owed(market) == {("creator-revenue", "", number): -1800, ("creator-refunds", "", number): 900}
    market.sums()
    with market.shop.app.state.database.reading() as session:
        booked = (
            session.execute(text("SELECT * FROM postings")).all()
            + session.execute(text("SELECT * FROM order_lines")).all()
        )
    assert wang.id not in str(booked)


def test_a_product_of_somebody_who_was_erased_meanwhile_is_not_ordered(market: Market) -> None:
    wang = maker(market, "prd_wang")
    database = market.shop.app.state.database
    with database.writing() as session:
        erase_account(session, wang.id, market.shop.clock.now)
    learner = market.shop.register()
    assert market.order(learner, "prd_wang").status_code == 404
    assert market.count("creator_accounts") == market.count("orders") == 0
    with database.writing() as session, pytest.raises(Problem):
        sellers.accounts_of(session, [market.rack.things["prd_wang"]], market.shop.clock.now)


def test_many_first_orders_at_once_open_one_account(market: Market) -> None:
    wang, _ = maker(market, "prd_a"), maker(market, "prd_b")
    other = thing("prd_c", 1, seller_tenant_id="", creator_user_id=wang.id)
    market.rack.put(other)
    requests = []
    for number in range(6):
        # Named both ways round: accounts are opened in one order all the same.
        lines = [{"product_id": name} for name in (("prd_a", "prd_b"), ("prd_b", "prd_c"))[number % 2]]
        headers = {**market.shop.register().headers, "Idempotency-Key": "first"}
        requests.append(("POST", f"{API}/orders", {"headers": headers, "json": {"lines": lines}}))
    assert Counter(at_once(market.shop, requests)) == {201: 6}
    assert market.count("creator_accounts") == 2


def test_the_catalogue_says_who_sells(shop: Shop) -> None:
    market = catalogue_cast.open_market(shop)
    operator = shop.register(None, "platform-operator")
    tenant = operator.post("/tenants", {"name": "A"}).json()["id"]
    alone, employed = shop.register(None, "creator"), shop.register(None, "creator", tenant_id=tenant)
    ids = [market.draft(person) for person in (alone, employed)]
    for person, product_id in zip((alone, employed), ids, strict=True):
        for who, step in ((person, "submit"), (market.reviewer, "publish")):
            assert market.step(who, product_id, step).status_code == 200
    with shop.app.state.database.reading() as session:
        # Opened with the product, so that no order has to hold its creator.
        opened = sellers.account_of(session, alone.id)
        assert opened is not None
        assert sellers.account_of(session, employed.id) is None
        told = [CatalogueShelf().sellable(session, product_id) for product_id in ids]
    assert [sold.seller_tenant_id for sold in told] == ["", tenant]
    assert told[0].creator_user_id == alone.id


def test_a_buyer_is_told_nothing_of_what_the_seller_is_owed(market: Market) -> None:
    maker(market, "prd_wang")
    learner = market.shop.register()
    assert market.order(learner, "prd_wang").status_code == 201
    with market.shop.app.state.database.reading() as session:
        [seller] = session.execute(text("SELECT id FROM creator_accounts")).scalars().all()
    export = learner.get("/me/export")
    assert export.status_code == 200
    assert "prd_wang" in export.text
    assert seller not in export.text


def test_the_database_refuses_a_sellers_share_without_one_seller(market: Market) -> None:
    market.buy(market.shop.register(), "prd_course")
    added = "INSERT INTO postings SELECT id, :place, :account, :tenant, :creator, 3, 'CNY' FROM journals"
    wrong = [
        ("creator-revenue", "", ""),
        ("tenant-revenue", "", ""),
        ("tenant-refunds", "tnt_a", "sel_1"),
        ("platform-fee", "", "sel_1"),
    ]
    for values in [*wrong, ("creator-refunds", "", "sel_1")]:
        told = dict(zip(("account", "tenant", "creator"), values, strict=True))
        refused = pytest.raises(IntegrityError) if values in wrong else nullcontext()
        with refused, market.shop.app.state.database.writing() as session:
            session.execute(text(added), {**told, "place": 9})
