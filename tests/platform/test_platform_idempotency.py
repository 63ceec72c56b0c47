from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError

from platform_api import database as databases
from platform_api import idempotency
from platform_api.idempotency import Once, Steps
from platform_api.problems import Problem
from tests.money_cast import Market
from tests.platform_cast import API, Shop


def once(shop: Shop, digest: str = "d", now: datetime | None = None) -> Once:
    return Once(shop.app.state.database, "usr_1", "key", digest, now or shop.clock.now)


@pytest.mark.parametrize("key", [None, "", "x" * 256, "with blank", "tab\t", "é"])
def test_a_request_for_money_needs_a_key(market: Market, key: str | None) -> None:
    learner = market.shop.register()
    sent = {**learner.headers, **({} if key is None else {"Idempotency-Key": key.encode()})}
    wish = {"lines": [{"product_id": "prd_course"}]}
    answer = market.shop.http.post(f"{API}/orders", json=wish, headers=sent)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (400, "idempotency-key-missing")
    assert market.count("orders") == 0


def test_the_same_key_replays_the_saved_answer(market: Market) -> None:
    learner = market.shop.register()
    first = market.order(learner, "prd_course", key="k")
    market.card(first.json())
    market.deliver()
    again = market.order(learner, "prd_course", key="k")
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert market.count("orders") == 1


def test_a_key_is_good_for_one_body_and_one_caller(market: Market) -> None:
    learner, other = market.shop.register(), market.shop.register()
    market.order(learner, "prd_course", key="k")
    changed = market.order(learner, "prd_book", key="k")
    assert (changed.status_code, changed.json()["type"].rpartition("/")[2]) == (422, "key-reused")
    assert market.order(other, "prd_book", key="k").status_code == 201
    assert market.count("orders") == 2


def test_a_refused_request_frees_its_key(market: Market) -> None:
    learner = market.shop.register()
    assert market.order(learner, "prd_none", key="k").status_code == 404
    assert market.order(learner, "prd_course", key="k").status_code == 201


def test_a_request_that_is_being_worked_on_is_not_begun_again(shop: Shop) -> None:
    def work(session: Any) -> tuple[int, Any]:
        return 201, {"worked": True}

    def outside(begun: str) -> None:
        for digest, slug in (("d", "in-progress"), ("other", "key-reused")):
            with pytest.raises(Problem) as refused:
                once(shop, digest).run(work)
            assert refused.value.slug == slug

    steps = Steps(begin=lambda session: "thing", outside=outside, finish=lambda session, begun, _: (201, begun))
    assert once(shop).run_steps(steps).status_code == 201
    assert once(shop).run(work).headers["idempotency-replayed"] == "true"


def test_after_a_failure_outside_the_next_try_goes_on_with_what_was_begun(shop: Shop) -> None:
    begun: list[str] = []

    def steps(fail: bool) -> Steps[str]:
        def begin(session: Any) -> str:
            begun.append(f"thing {len(begun)}")
            return begun[-1]

        def outside(thing: str) -> str:
            if fail:
                raise Problem("provider-unavailable")
            return thing

        return Steps(begin=begin, outside=outside, finish=lambda session, thing, heard: (201, [thing, heard]))

    for _ in range(2):
        with pytest.raises(Problem):
            once(shop).run_steps(steps(True))
    assert once(shop).run_steps(steps(False)).body == b'["thing 0","thing 0"]'
    assert begun == ["thing 0"]


def test_a_request_that_died_is_taken_over_after_a_minute(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def died(session: Any) -> tuple[int, Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Once, "_release", lambda self: None)
        with pytest.raises(KeyboardInterrupt):
            once(shop).run(died)
    with pytest.raises(Problem):
        once(shop).run(lambda session: (201, 1))
    later = shop.clock.now + idempotency.ABANDONED_AFTER
    assert once(shop, now=later).run(lambda session: (201, 2)).status_code == 201


def test_one_that_was_thought_dead_does_not_finish_a_second_time(shop: Shop) -> None:
    finished: list[str] = []

    def finish(session: Any, begun: str, name: str) -> tuple[int, Any]:
        finished.append(name)
        return 201, {"name": name}

    def slow(begun: str) -> str:
        later = shop.clock.now + timedelta(minutes=2)
        steps = Steps(begin=lambda session: "no", outside=lambda begun: begun, finish=finish)
        assert once(shop, now=later).run_steps(steps).status_code == 201
        return "slow"

    with pytest.raises(Problem, match="in-progress"):
        once(shop).run_steps(Steps(begin=lambda session: "thing", outside=slow, finish=finish))
    assert finished == ["thing"]
    assert once(shop).run(lambda session: (201, 0)).body == b'{"name":"thing"}'


def test_the_first_error_is_reported_when_the_key_cannot_be_freed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(session: Any) -> tuple[int, Any]:
        def fails(*_: Any) -> None:
            raise OperationalError("no", {}, Exception("gone"))

        monkeypatch.setattr(databases.Database, "writing", fails)
        raise ValueError("the first")

    with pytest.raises(ValueError, match="the first"):
        once(shop).run(broken)


def test_no_route_holds_a_transaction_around_a_request_that_happens_once(shop: Shop) -> None:
    """On SQLite the two would wait for each other for half a minute."""
    from platform_api.app import FEATURES

    routes = [route for feature in FEATURES for router in feature.routers for route in router.routes]
    seen = 0
    for route in routes:
        assert isinstance(route, APIRoute)
        calls = {dependency.call for dependency in route.dependant.dependencies}
        if idempotency._once in calls:
            seen += 1
            assert databases._write_session not in calls, route.path
            assert databases._read_session not in calls, route.path
    assert seen >= 2
