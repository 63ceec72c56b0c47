"""Slots of consulting: a slot has room for one."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import Session

from platform_api.catalogue.slots import hold_slot, release_slot
from platform_api.problems import Problem
from tests.catalogue_cast import Market, open_market
from tests.platform_cast import API, Shop


@pytest.fixture
def market(shop: Shop) -> Market:
    return open_market(shop)


def offer(market: Market, product_id: str, hour: int, hours: float = 1.0) -> int | str:
    """The new slot's id, or the status of the refusal."""
    start = market.shop.clock() + timedelta(hours=hour)
    wish = {"starts_at": start.isoformat(), "ends_at": (start + timedelta(hours=hours)).isoformat()}
    answer = market.step(market.creator, product_id, "slots", wish)
    return str(answer.json()["id"]) if answer.status_code == 201 else int(answer.status_code)


def free(market: Market, product_id: str) -> list[str]:
    return [slot["id"] for slot in market.shop.http.get(f"{API}/products/{product_id}/slots").json()["items"]]


def hold(market: Market, slot_id: str, order_id: str) -> int:
    try:
        with market.shop.app.state.database.writing() as session:
            hold_slot(session, slot_id, order_id, market.shop.clock())
        return 201
    except Problem as problem:
        return problem.status


def test_of_many_who_book_one_slot_at_once_one_wins(market: Market) -> None:
    product_id = market.published(kind="consulting")
    slot_id = str(offer(market, product_id, 1))
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda number: hold(market, slot_id, f"ord_{number}"), range(8)))
    assert sorted(statuses) == [201] + [409] * 7
    assert free(market, product_id) == []


def test_the_same_order_may_ask_again_and_a_released_slot_is_free(market: Market) -> None:
    product_id = market.published(kind="consulting")
    slot_id = str(offer(market, product_id, 1))
    assert [hold(market, slot_id, "ord_1"), hold(market, slot_id, "ord_1")] == [201, 201]
    with market.shop.app.state.database.writing() as session:
        release_slot(session, slot_id, "ord_2")
    assert hold(market, slot_id, "ord_2") == 409
    with market.shop.app.state.database.writing() as session:
        release_slot(session, slot_id, "ord_1")
    assert free(market, product_id) == [slot_id]
    assert hold(market, slot_id, "ord_2") == 201


def test_one_transaction_holds_and_holds_again(market: Market) -> None:
    slot_id = str(offer(market, market.published(kind="consulting"), 1))
    with market.shop.app.state.database.writing() as session:
        _twice(session, slot_id, market)
        with pytest.raises(Problem) as refused:
            hold_slot(session, slot_id, "ord_2", market.shop.clock())
        release_slot(session, slot_id, "ord_1")
        hold_slot(session, slot_id, "ord_2", market.shop.clock())
    assert refused.value.status == 409


def _twice(session: Session, slot_id: str, market: Market) -> None:
    for _ in range(2):
        hold_slot(session, slot_id, "ord_1", market.shop.clock())


def test_slots_of_drafts_and_slots_that_have_begun_are_not_held(market: Market) -> None:
    product_id = market.draft(kind="consulting")
    slot_id = str(offer(market, product_id, 1))
    assert hold(market, slot_id, "ord_1") == 404
    assert market.shop.http.get(f"{API}/products/{product_id}/slots").status_code == 404
    market.release(product_id)
    market.shop.clock.forward(hours=1)
    assert hold(market, slot_id, "ord_1") == 409
    assert hold(market, "slt_none", "ord_1") == 404


def test_slots_do_not_overlap_and_only_consulting_has_any(market: Market) -> None:
    product_id = market.published(kind="consulting")
    first = str(offer(market, product_id, 5))
    assert offer(market, product_id, 5) == 409
    assert offer(market, product_id, 4, 1.5) == 409
    assert offer(market, product_id, -1) == 422
    assert offer(market, product_id, 5, -1) == 422
    second = str(offer(market, product_id, 4))
    assert free(market, product_id) == [second, first]
    assert offer(market, market.published(), 1) == 409


def test_a_booked_slot_is_not_taken_back(market: Market) -> None:
    product_id = market.published(kind="consulting")
    booked, idle = str(offer(market, product_id, 1)), str(offer(market, product_id, 2))
    hold(market, booked, "ord_1")
    for slot_id, status in ((booked, 409), (idle, 204), (idle, 404)):
        tag = market.etag(market.creator, product_id)
        target = f"/products/{product_id}/slots/{slot_id}"
        assert market.creator.send("DELETE", target, **{"If-Match": tag}).status_code == status


def test_pages_of_free_slots_follow_one_another(market: Market) -> None:
    product_id = market.published(kind="consulting")
    offered = [str(offer(market, product_id, hour)) for hour in (1, 2, 3)]
    first = market.shop.http.get(f"{API}/products/{product_id}/slots?limit=2").json()
    cursor = first["next_cursor"]
    rest = market.shop.http.get(f"{API}/products/{product_id}/slots?limit=2&cursor={cursor}").json()
    assert [slot["id"] for slot in first["items"] + rest["items"]] == offered


@pytest.mark.parametrize(
    "begin", [1_900_000_000, "1900000000", "2030-05-01", "2030-05-01 08:00:00Z", "2030-05-01T08:00:00"]
)
def test_a_time_is_stated_with_its_zone_and_not_guessed(market: Market, begin: Any) -> None:
    product_id = market.published(kind="consulting")
    tag = market.etag(market.creator, product_id)
    for wish, status in (
        ({"starts_at": begin, "ends_at": "2040-05-01T09:00:00Z"}, 422),
        ({"starts_at": "2039-05-01T09:00:00+08:00", "ends_at": "2040-05-01T09:00:00.5Z"}, 201),
    ):
        answer = market.creator.post(f"/products/{product_id}/slots", wish, **{"If-Match": tag})
        assert answer.status_code == status, answer.text
