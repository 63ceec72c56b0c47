import json
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import text

from tests.money_cast import SECRET, Market
from tests.platform_cast import Person, opened_shop


def state(market: Market) -> list[Any]:
    """Everything that a message could change."""
    with market.shop.app.state.database.reading() as session:
        return [
            session.execute(text(f"SELECT * FROM {name} ORDER BY 1")).all()
            for name in ("orders", "entitlements", "refunds", "journals", "webhook_receipts")
        ]


def succeeded(order: dict[str, Any], **changes: Any) -> dict[str, Any]:
    told = {
        "id": order["intent_id"],
        "order_id": order["id"],
        "amount_minor": order["total_minor"],
        "currency": order["currency"],
        "status": "succeeded",
    }
    return {"type": "intent.succeeded", "data": {**told, **changes}}


EVENTS = ("complete", "message", "duplicate", "late failure", "refund", "refund message")


@pytest.mark.parametrize("first", EVENTS)
def test_whatever_comes_first_the_order_ends_paid_or_refunded_once(market: Market, first: str) -> None:
    operator = market.shop.register(None, "platform-operator")
    orders = [order for order in permutations(EVENTS) if order[0] == first]
    # Some over HTTP; test_platform_payments_races plays every order of them on the rules themselves.
    for sequence in orders[::30]:
        learner = market.shop.register()
        _play(market, learner, operator, sequence)


def _play(market: Market, learner: Person, operator: Person, sequence: tuple[str, ...]) -> None:
    before = market.sums().get("provider-clearing", 0)
    market.sandbox.step(lambda headers, body: 200)  # what the sequence before left undelivered
    order = market.order(learner, "prd_course").json()
    market.card(order)
    lost: list[tuple[dict[str, str], bytes]] = []
    assert market.sandbox.step(lambda headers, body: lost.append((headers, body)) or 200) == 1  # type: ignore[func-returns-value]
    refunded = False

    def refund_message() -> int:
        market.sandbox.step(lambda headers, body: lost.append((headers, body)) or 200)  # type: ignore[func-returns-value]
        return market.post_message(*lost[-1]).status_code

    events: dict[str, Callable[[], int]] = {
        "complete": lambda: learner.post(f"/orders/{order['id']}/complete").status_code,
        "message": lambda: market.post_message(*lost[0]).status_code,
        "duplicate": lambda: market.post_message(*lost[0]).status_code,
        "late failure": lambda: market.tell(failed(order), f"late_{order['id']}").status_code,
        "refund": lambda: market.refund(operator, order).status_code,
        "refund message": refund_message,
    }
    paid = False
    for name in sequence:
        status = events[name]()
        if name == "refund":
            assert status == (201 if paid else 409), (sequence, name, status)
            refunded = refunded or status == 201
        else:
            assert status in (200, 204), (sequence, name, status)
        paid = paid or name in ("complete", "message", "duplicate")
        if name == "refund message" and len(lost) == 1:
            paid = True  # there was only the payment's message to deliver
    assert learner.get(f"/orders/{order['id']}").json()["status"] == ("refunded" if refunded else "paid")
    assert market.owned(learner) == ([] if refunded else ["prd_course"])
    assert market.sums()["provider-clearing"] - before == (0 if refunded else 1999)
    assert market.count("journals", f"order_id = '{order['id']}'") == (3 if refunded else 1)
    assert market.count("entitlements", f"user_id = '{learner.id}'") == 1


def failed(order: dict[str, Any]) -> dict[str, Any]:
    return {**succeeded(order, status="failed"), "type": "intent.failed"}


@pytest.mark.parametrize(
    "change",
    [
        {"amount_minor": 1},
        {"amount_minor": 2000},
        {"currency": "USD"},
        {"order_id": "other"},
        {"id": "other"},
        {"id": "int_never_made"},
        {"order_id": "ord_never_made"},
    ],
)
def test_a_signed_message_that_does_not_agree_with_ours_changes_nothing(market: Market, change: dict[str, Any]) -> None:
    learner = market.shop.register()
    order, other = market.order(learner, "prd_course").json(), market.order(learner, "prd_book").json()
    swapped = {"order_id": other["id"], "id": other["intent_id"]}
    told = {name: swapped[name] if value == "other" else value for name, value in change.items()}
    before = state(market)
    answer = market.tell(succeeded(order, **told))
    assert answer.status_code in (404, 409), answer.text
    assert state(market) == before
    assert market.owned(learner) == []
    assert market.tell(succeeded(order)).status_code == 204


def test_a_tampered_message_changes_nothing(market: Market) -> None:
    learner = market.shop.register()
    order = market.order(learner, "prd_course").json()
    body = json.dumps(succeeded(order))
    good = market.sandbox.signed("msg_1", body)
    sent: list[tuple[dict[str, str], bytes]] = [
        (good, body.replace("1999", "1998").encode()),
        (good, body.encode() + b" "),
        (good, b"\xff" + body.encode()),
        ({**good, "webhook-id": "msg_2"}, body.encode()),
        ({**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)}, body.encode()),
    ]
    malformed = ("", "v1", "v1,", "v1,!!!", "v1,é", "v1,AA==,AA==", "v2," + good["webhook-signature"][3:], "v1a,x y")
    sent += [({**good, "webhook-signature": value}, body.encode()) for value in malformed]
    sent += [({**good, "webhook-timestamp": value}, body.encode()) for value in ("", "nan", "inf", "-1", "9" * 40)]
    sent += [({**good, "webhook-id": value}, body.encode()) for value in ("", "a.b", "x" * 200)]
    sent += [({name: value for name, value in good.items() if name != gone}, body.encode()) for gone in list(good)[:3]]
    before = state(market)
    for headers, content in sent:
        answer = market.post_message(headers, content)
        assert answer.status_code == 400, (headers, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert state(market) == before
    assert market.post_message(good, body.encode()).status_code == 204


def test_a_stale_message_changes_nothing(market: Market) -> None:
    order = market.order(market.shop.register(), "prd_course").json()
    body = json.dumps(succeeded(order))
    signed = market.sandbox.signed("msg_1", body)
    before = state(market)
    for minutes in (6, -12):
        market.shop.clock.forward(minutes=minutes)
        assert market.post_message(signed, body.encode()).status_code == 400
    assert state(market) == before
    market.shop.clock.forward(minutes=2)
    assert market.post_message(signed, body.encode()).status_code == 204


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        "nul",
        '{"type": "intent.succeeded"}',
        '{"type": "intent.sold", "data": {}}',
        '{"type": "intent.succeeded", "data": {"id": "i", "order_id": "o", "amount_minor": 1.5}}',
        "[" * 5_000,
        '{"type": "intent.succeeded", "data": {"amount_minor": ' + "9" * 5_000 + "}}",
    ],
)
def test_a_signed_message_that_is_no_event_is_refused(market: Market, body: str) -> None:
    assert market.post_message(market.sandbox.signed("msg_1", body), body.encode()).status_code == 422


def test_a_message_whose_type_names_another_state_than_its_data_is_refused(market: Market) -> None:
    order = market.order(market.shop.register(), "prd_course").json()
    assert market.tell({**succeeded(order), "type": "intent.failed"}).status_code == 422
    assert market.tell(succeeded(order, status="failed")).status_code == 422


def test_a_message_about_a_payment_that_is_not_noted_yet_comes_again(market: Market) -> None:
    learner = market.shop.register()
    market.sandbox.dials.lose_answers = 1
    assert market.order(learner, "prd_course", key="k").status_code == 503
    intent = market.sandbox.books.all("SELECT * FROM intents")[0]
    assert market.card({"intent_id": intent["id"]}) == 200
    assert market.deliver() == [404]
    # The shop's client tries the same request again, and learns what the payment is and that it is paid.
    assert market.order(learner, "prd_course", key="k").json()["status"] == "paid"
    market.shop.clock.forward(seconds=6)
    assert market.deliver() == [204]
    assert market.owned(learner) == ["prd_course"]
    assert market.sums()["provider-clearing"] == 1999


def test_the_provider_delivers_again_what_was_not_taken(market: Market) -> None:
    learner = market.shop.register()
    market.card(market.order(learner, "prd_course").json())
    assert market.sandbox.step(lambda headers, body: 500) == 1
    assert market.deliver() == []
    market.shop.clock.forward(seconds=5)
    assert market.deliver() == [204]
    assert market.owned(learner) == ["prd_course"]


def test_a_success_after_the_payment_was_cancelled_is_refused(market: Market) -> None:
    learner = market.shop.register()
    order = market.order(learner, "prd_course").json()
    learner.post(f"/orders/{order['id']}/cancel")
    before = state(market)
    assert market.tell(succeeded(order)).status_code == 409
    assert state(market) == before


def test_two_secrets_hold_while_one_replaces_the_other(settings_of: Any) -> None:
    from tests.money_cast import opened_market

    newer = "whsec_YSBuZXdlciBzZWNyZXQgb2YgdGhlIHNob3A="
    with opened_market(settings_of(webhook_secret=f"{newer} {SECRET}")) as market:
        market.buy(market.shop.register(), "prd_course")
    with opened_market(settings_of(webhook_secret=newer)) as market:
        market.card(market.order(market.shop.register("later@example.org"), "prd_course").json())
        assert market.deliver() == [400]


@pytest.mark.parametrize("secret", ["a password of some length", "whsec_", "whsec_AAAA", "whsec_no base 64 at all!"])
def test_a_weak_webhook_secret_is_no_setting(settings_of: Any, secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        settings_of(webhook_secret=secret)


def test_without_a_secret_no_message_is_taken(settings_of: Any) -> None:
    with opened_shop(settings_of(webhook_secret="")) as shop:
        assert shop.http.post("/api/v1/webhooks/payments", content=b"{}").status_code == 503
