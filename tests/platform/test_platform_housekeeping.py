"""What is over is swept: orders nobody paid, and what replay protection needs no more. Never a moment too early."""

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import anyio
import pytest
from pydantic import ValidationError
from sqlalchemy import text
from structlog.testing import capture_logs
from typer.testing import CliRunner

from platform_api.cli import platform_app
from platform_api.database import Database
from platform_api.housekeeping import sweeps
from platform_api.housekeeping.background import sweeping, take_turn
from platform_api.housekeeping.sweeps import Swept, retention_of, sweep
from platform_api.idempotency import IdempotentRequest
from platform_api.orders.checkout import Till
from platform_api.payments.provider import ProviderUnavailable
from platform_api.payments.reconcile import reconcile
from platform_api.payments.signatures import TOLERANCE
from platform_api.sandbox import provider as sandbox
from platform_api.settings import PREFIX, Settings
from tests.money_cast import Market
from tests.platform_cast import API, Person, opened_shop

ON_SQLITE = pytest.mark.parametrize("ready_url", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("ready_url", ["postgresql"], indirect=True)
SECOND = timedelta(seconds=1)


def swept(market: Market) -> Swept:
    done = sweep(market.till, retention_of(market.shop.settings), market.shop.clock.now)
    assert done.failed == ()
    return done


def put_clock(market: Market, after: timedelta) -> None:
    market.shop.clock.now += after


def test_orders_nobody_paid_in_time_give_back_what_they_held(market: Market) -> None:
    learner, other = market.shop.register(), market.shop.register()
    talk = market.order(learner, "prd_talk", slot_id="slt_1").json()
    in_time, waiting = market.order(learner, "prd_course").json(), market.order(other, "prd_book").json()
    assert market.card(in_time) == 200  # and its message is lost
    put_clock(market, timedelta(minutes=30) - SECOND)
    assert swept(market).counts["orders"] == 0
    assert market.order(other, "prd_talk", slot_id="slt_1").status_code == 409
    put_clock(market, SECOND)
    assert swept(market).counts["orders"] == 3
    states = {order["id"]: order["status"] for person in (learner, other) for order in orders(person)}
    assert states == {talk["id"]: "expired", in_time["id"]: "paid", waiting["id"]: "expired"}
    assert (market.owned(learner), market.owned(other)) == (["prd_course"], [])
    assert market.count("rack_slots") == 0
    market.buy(other, "prd_talk", slot_id="slt_1")
    assert swept(market).counts["orders"] == 0


def orders(person: Person) -> list[dict[str, Any]]:
    return list(person.get("/orders").json()["items"])


def test_a_payment_after_the_time_is_over_neither_counts_nor_takes_anybodys_slot(market: Market) -> None:
    late, quick = market.shop.register(), market.shop.register()
    order = market.order(late, "prd_talk", slot_id="slt_1").json()
    put_clock(market, timedelta(minutes=30))
    swept(market)
    assert market.card(order) == 422, "the provider takes no money for it any more"
    market.buy(quick, "prd_talk", slot_id="slt_1")
    # Were it to say that it had all the same, a person would have to look.
    market.sandbox.books.do("UPDATE intents SET status = 'succeeded' WHERE id = ?", order["intent_id"])
    body = {"id": order["intent_id"], "order_id": order["id"], "amount_minor": 3000, "currency": "CNY"}
    told = {"type": "intent.succeeded", "data": {**body, "status": "succeeded"}}
    assert market.tell(told).status_code == 409
    assert market.owned(late) == []
    assert [finding.kind for finding in reconcile(market.till, market.shop.clock.now).findings][:1] == [
        "paid-there-closed-here"
    ]


def test_an_order_for_a_person_to_look_at_keeps_no_other_from_its_turn(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform_api.payments.reconcile._ORDERS_AT_ONCE", 1)
    placed = [market.order(market.shop.register(), "prd_course").json() for _ in range(3)]
    first = min(placed, key=lambda order: str(order["id"]))
    market.sandbox.books.do("UPDATE intents SET amount_minor = 1 WHERE id = ?", first["intent_id"])
    put_clock(market, timedelta(minutes=31))
    done = swept(market)
    assert (done.counts["orders"], done.counts["orders_for_a_person"]) == (2, 1)


def test_a_key_is_remembered_to_the_end_of_its_time(market: Market) -> None:
    learner = market.shop.register()
    placed = market.order(learner, "prd_free", key="a-key").json()
    assert placed["status"] == "paid"
    put_clock(market, timedelta(days=7))
    assert swept(market).counts["answers"] == 0
    assert market.order(market.shop.log_in(learner.email), "prd_free", key="a-key").json() == placed
    put_clock(market, SECOND)
    assert swept(market).counts["answers"] == 1
    again = market.order(market.shop.log_in(learner.email), "prd_free", key="a-key")
    assert again.status_code == 409, "a new request, for what is owned already"


def test_receipts_of_messages_are_kept_longer_than_any_can_come_again(market: Market) -> None:
    market.buy(market.shop.register(), "prd_course")
    put_clock(market, timedelta(days=30))
    assert swept(market).counts["receipts"] == 0
    put_clock(market, SECOND)
    assert (swept(market).counts["receipts"], market.count("webhook_receipts")) == (1, 0)


def test_retention_cannot_be_set_shorter_than_protection_needs(settings_of: Any) -> None:
    least = timedelta(days=4)
    assert timedelta(seconds=sum(sandbox._AGAIN_AFTER)) + 2 * TOLERANCE < least
    assert settings_of(webhook_receipt_days=least.days).webhook_receipt_days == 4
    for wrong in (
        {"webhook_receipt_days": 3},
        {"idempotency_days": 0},
        {"login_history_days": 0},
        {"sweep_seconds": -1},
    ):
        with pytest.raises(ValidationError):
            settings_of(**wrong)


def refresh(market: Market, token: str) -> Any:
    return market.shop.http.post(f"{API}/tokens", data={"grant_type": "refresh_token", "refresh_token": token})


def test_log_ins_go_once_nothing_of_them_can_be_used(market: Market) -> None:
    person = market.shop.register()
    idle, ended = market.shop.log_in(person.email), market.shop.log_in(person.email)
    assert ended.post("/logout").status_code == 204
    newest = person.refresh_token
    for _ in range(2):  # a log-in that lives on, by tokens that follow one another
        put_clock(market, timedelta(days=29))
        newest = refresh(market, newest).json()["refresh_token"]
    assert (market.count("login_families"), market.count("refresh_tokens")) == (3, 5)
    # Its first token and the idle log-in's expired 28 days ago; the ended log-in is 58 days old.
    assert swept(market).counts["log_ins"] == 2
    put_clock(market, timedelta(days=2) + SECOND)
    swept(market)
    assert (market.count("login_families"), market.count("refresh_tokens")) == (1, 2)
    assert refresh(market, idle.refresh_token).status_code == 401
    last = refresh(market, newest).json()["refresh_token"]
    # Reuse of one that is not long over still ends the log-in.
    assert refresh(market, newest).status_code == 401
    assert refresh(market, last).status_code == 401


def add_receipts(database: Database, market: Market, number: int) -> None:
    with database.writing() as session:
        for place in range(number):
            told = {"id": f"msg_{place}", "at": market.shop.clock.now - timedelta(days=31)}
            session.execute(text("INSERT INTO webhook_receipts VALUES (:id, 'x', 'x', :at)"), told)


def test_many_rows_go_in_small_transactions(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    database = market.shop.app.state.database
    for _ in range(3):  # a log-in and its token each
        market.shop.register()
    put_clock(market, timedelta(days=61))
    add_receipts(database, market, 5)
    with database.writing() as session:
        for place in range(5):
            at = market.shop.clock.now - timedelta(days=8)
            session.add(IdempotentRequest(caller_id="a", key=f"{place}", request_digest="", started_at=at, attempt=""))
    monkeypatch.setattr(sweeps, "BATCH", 2)
    taken: dict[str, list[int]] = {"_remove_receipts": [], "_remove_answers": [], "_remove_log_ins": []}
    for name, counts in taken.items():
        monkeypatch.setattr(sweeps, name, _watched(getattr(sweeps, name), counts))
    done = swept(market)
    assert [done.counts[name] for name in ("receipts", "answers", "log_ins")] == [5, 5, 6]
    assert taken == {"_remove_receipts": [2, 2, 1, 0], "_remove_answers": [2, 2, 1, 0], "_remove_log_ins": [4, 2, 0]}


def _watched(step: Any, counts: list[int]) -> Any:
    def watched(session: Any, before: Any) -> int:
        counts.append(step(session, before))
        return counts[-1]

    return watched


@ON_POSTGRESQL
def test_a_sweep_passes_over_what_somebody_has_in_hand(market: Market) -> None:
    database = market.shop.app.state.database
    person = market.shop.register()
    market.order(person, "prd_free", key="in-hand")
    put_clock(market, timedelta(days=61))
    with ThreadPoolExecutor(1) as pool, database.writing() as session:
        session.execute(text("SELECT 1 FROM idempotent_requests FOR UPDATE"))
        session.execute(text("SELECT 1 FROM refresh_tokens FOR UPDATE"))
        done = pool.submit(swept, market).result(timeout=10)
    assert (done.counts["answers"], done.counts["log_ins"]) == (0, 0)
    done = swept(market)
    assert (done.counts["answers"], done.counts["log_ins"]) == (1, 2)


def test_a_sweep_that_fails_is_logged_without_values_and_made_up_for(market: Market) -> None:
    learner = market.shop.register()
    order = market.order(learner, "prd_course").json()
    add_receipts(market.shop.app.state.database, market, 1)
    put_clock(market, timedelta(minutes=31))
    with pytest.MonkeyPatch.context() as patch, capture_logs() as logs:
        patch.setattr(market.sandbox, "_api_key", "another")  # the provider does not answer any more
        done = sweep(market.till, retention_of(market.shop.settings), market.shop.clock.now)
    assert (done.failed, done.counts["receipts"]) == (("orders",), 1)
    [line] = logs
    assert (line["event"], line["what"], line["error"]) == ("a sweep failed", "orders", "ProviderUnavailable")
    assert order["id"] not in str(logs)
    assert swept(market).counts["orders"] == 1


def test_an_order_that_is_not_answered_for_keeps_no_other_from_its_turn(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = market.shop.register()
    ids = sorted(market.order(learner, name, key=name).json()["id"] for name in ("prd_course", "prd_book"))
    put_clock(market, timedelta(minutes=31))
    cancelled = Till.cancelled_intent

    def but_the_first(till: Till, order_id: str) -> Any:
        if order_id == ids[0]:
            raise ProviderUnavailable
        return cancelled(till, order_id)

    with monkeypatch.context() as patch:
        patch.setattr(Till, "cancelled_intent", but_the_first)
        assert swept(market).counts["orders"] == 1
        stopped = sweep(market.till, retention_of(market.shop.settings), market.shop.clock.now, lambda: True)
        assert (stopped.counts["orders"], stopped.failed) == (0, ())
    assert [learner.get(f"/orders/{one}").json()["status"] for one in ids] == ["pending", "expired"]
    assert swept(market).counts["orders"] == 1


def test_of_processes_that_share_a_database_one_sweeps_at_a_time(market: Market) -> None:
    database, now = market.shop.app.state.database, market.shop.clock.now
    every = timedelta(minutes=5)
    with ThreadPoolExecutor(4) as pool:
        for turn in (now, now + every):
            asked = list(pool.map(lambda _, at=turn: take_turn(database, at, every), range(4)))
            assert Counter(asked) == {True: 1, False: 3}
    assert not take_turn(database, now + 2 * every - SECOND, every)
    # A clock that was a year fast for a moment keeps nobody from sweeping for a year.
    assert take_turn(database, now + timedelta(days=365), every)
    assert take_turn(database, now + 2 * every, every)


def until(what: Any) -> None:
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@ON_SQLITE
def test_the_service_sweeps_in_the_background_and_ends_when_the_sweep_has(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), []
    calls: list[str] = []

    def slow(till: Any, keep: Any, now: Any, stopping: Any) -> Swept:
        market.shop.clock.forward(seconds=1)
        calls.append("call")
        if len(calls) == 1:
            raise RuntimeError("the database was away")
        begun.set()
        go_on.wait(10)
        ended.append(stopping())
        return Swept(counts={"answers": 7, "log_ins": 0}, failed=())

    async def serve() -> None:
        async with sweeping(market.till, retention_of(market.shop.settings), market.shop.clock, 0.01):
            await anyio.to_thread.run_sync(begun.wait)
            threading.Timer(0.2, go_on.set).start()

    monkeypatch.setattr("platform_api.housekeeping.background.sweep", slow)
    with capture_logs() as logs:
        anyio.run(serve)
    assert ended == [True], "what was under way was not waited for, or not told to end"
    assert [(line["event"], line.get("error"), line.get("answers")) for line in logs] == [
        ("no sweep could begin", "RuntimeError", None),
        ("swept", None, 7),
    ]


@ON_SQLITE
@pytest.mark.parametrize("seconds", [1, 0])
def test_a_running_service_sweeps_as_often_as_it_is_told_to(settings_of: Any, seconds: int) -> None:
    settings: Settings = settings_of(sweep_seconds=seconds)
    with opened_shop(settings) as shop:
        person = shop.register()
        shop.clock.forward(days=61)

        def left() -> int:
            with shop.app.state.database.reading() as session:
                return int(session.execute(text("SELECT COUNT(*) FROM login_families")).scalar_one())

        if seconds:
            until(lambda: left() == 0)
        else:
            time.sleep(1.2)
            assert left() == 1
        assert shop.log_in(person.email).get("/me").status_code == 200


@ON_SQLITE
def test_the_command_sweeps_at_once_and_says_what_failed(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    add_receipts(market.shop.app.state.database, market, 2)
    monkeypatch.setattr("platform_api.cli.os.umask", lambda mask: mask)
    monkeypatch.setenv(f"{PREFIX}DATABASE_URL", market.shop.settings.database_url)
    monkeypatch.setenv(f"{PREFIX}PROVIDER_URL", "http://127.0.0.1:9")
    monkeypatch.setenv(f"{PREFIX}SECRET_KEY", market.shop.settings.secret_key.get_secret_value())
    monkeypatch.setattr("platform_api.cli.system_clock", market.shop.clock)
    done = CliRunner().invoke(platform_app, ["sweep", "--json"])
    nothing = {"orders": 0, "orders_for_a_person": 0, "answers": 0, "log_ins": 0, "failed": []}
    assert (done.exit_code, json.loads(done.stdout)) == (0, {**nothing, "receipts": 2})
    market.order(market.shop.register(), "prd_course")
    market.shop.clock.forward(minutes=31)
    failed = CliRunner().invoke(platform_app, ["sweep"])  # nobody answers at the provider's address
    assert (failed.exit_code, "failed, run it again: orders" in failed.output) == (1, True)
