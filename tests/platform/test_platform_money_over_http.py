"""Over real loopback HTTP: many requests at once, a provider that calls back, and a server that is killed."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from platform_api.accounts.service import set_roles
from platform_api.app import create_app
from platform_api.database import Database
from platform_api.sandbox.provider import Sandbox, utc_now
from platform_api.sandbox.service import sandbox_app
from tests.money_cast import GOOD_CARD, KEY, SECRET, Market
from tests.money_room import provider_books
from tests.platform_cast import API, PASSWORD
from tests.platform_on_loopback import free_port, served, wait_for

ROOT = Path(__file__).parents[2]


@contextmanager
def provider_at(port: int, shop_port: int) -> Iterator[Sandbox]:
    sandbox = Sandbox(webhook_secret=SECRET, api_key=KEY, clock=utc_now)
    with served(sandbox_app(sandbox, f"http://127.0.0.1:{shop_port}{API}/webhooks/payments"), port):
        yield sandbox


@contextmanager
def shop_process(**told: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "tests.money_process", json.dumps(told)], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def log_in(http: httpx.Client, email: str) -> dict[str, str]:
    form = {"grant_type": "password", "username": email, "password": PASSWORD}
    token = http.post(f"{API}/tokens", data=form).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


def register(http: httpx.Client, email: str) -> dict[str, str]:
    wish = {"email": email, "password": PASSWORD, "display_name": "x"}
    assert http.post(f"{API}/accounts", json=wish).status_code == 201
    return log_in(http, email)


@pytest.fixture
def at_once(market: Market) -> Iterator[Any]:
    """at_once(person, path, bodies, key): the answers to as many requests, sent together over real connections."""
    app = create_app(
        market.shop.settings,
        clock=market.shop.clock,
        provider=market.shop.app.state.provider,
        shelf=market.rack,
    )
    with served(app, free_port()) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        gate = threading.Barrier(30)

        def one(headers: dict[str, str], path: str, body: Any) -> httpx.Response:
            gate.wait()
            return http.post(API + path, json=body, headers=headers)

        def together(person: Any, path: str, bodies: list[Any], key: str | None) -> list[httpx.Response]:
            headers = {**person.headers, **({"Idempotency-Key": key} if key else {})}
            with ThreadPoolExecutor(30) as pool:
                return list(pool.map(lambda body: one(headers, path, body), bodies))

        yield together


def test_thirty_orders_at_once_with_one_key_are_one_order(market: Market, at_once: Any) -> None:
    learner = market.shop.register()
    answers = at_once(learner, "/orders", [{"lines": [{"product_id": "prd_course"}]}] * 30, "k")
    made = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len(set(made)) == 1
    assert [market.count(name) for name in ("orders", "order_lines", "entitlements")] == [1, 1, 1]
    assert len(market.sandbox.books.all("SELECT id FROM intents")) == 1
    replayed = learner.post("/orders", {"lines": [{"product_id": "prd_course"}]}, key="k")
    assert (replayed.status_code, replayed.json()["id"]) == (201, made[0])


def test_thirty_bodies_at_once_with_one_key_are_one_order(market: Market, at_once: Any) -> None:
    learner = market.shop.register()
    bodies = [{"lines": [{"product_id": name}]} for name in ("prd_course", "prd_book", "prd_other") * 10]
    answers = at_once(learner, "/orders", bodies, "k")
    assert {answer.status_code for answer in answers} <= {201, 409, 422}
    assert market.count("orders") == 1


def test_thirty_completions_and_refunds_at_once_are_one_sale_and_one_refund(market: Market, at_once: Any) -> None:
    operator = market.shop.register(None, "platform-operator")
    learner = market.shop.register()
    order = market.order(learner, "prd_course").json()
    market.card(order)
    answers = at_once(learner, f"/orders/{order['id']}/complete", [None] * 30, None)
    assert [answer.json()["status"] for answer in answers] == ["paid"] * 30
    assert market.count("journals") == 1
    wish = {"line_id": order["lines"][0]["id"]}
    answers = at_once(operator, f"/orders/{order['id']}/refunds", [wish] * 30, "k")
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert market.count("refunds") == 1
    assert market.sums()["provider-clearing"] == 0


def test_a_paid_order_is_granted_by_the_providers_call(database_url: str, tmp_path: Path) -> None:
    shop_port, provider_port = free_port(), free_port()
    url = f"http://127.0.0.1:{provider_port}"
    told = {"database_url": database_url, "provider_url": url, "port": shop_port, "folder": str(tmp_path), "later": 0}
    with provider_at(provider_port, shop_port), shop_process(**told), _client(shop_port) as http:
        learner = register(http, "mei@example.org")
        sent = {**learner, "Idempotency-Key": "k"}
        order = http.post(f"{API}/orders", json={"lines": [{"product_id": "prd_1"}]}, headers=sent).json()
        page = httpx.get(order["pay_url"].replace("http://127.0.0.1:8400", url), trust_env=False)
        assert order["intent_id"] in page.text
        paid = httpx.post(f"{url}/pay/{order['intent_id']}", data={"card": GOOD_CARD}, trust_env=False)
        assert (paid.status_code, paid.headers["location"].rpartition("=")[2]) == (303, "succeeded")
        owned = wait_for(lambda: http.get(f"{API}/me/entitlements", headers=learner).json()["items"])
        assert [entry["product_id"] for entry in owned] == ["prd_1"]
        assert httpx.get(f"{url}/intents", trust_env=False).status_code == 401
        assert httpx.post(f"{url}/pay/{order['intent_id']}", data={"card": "1"}, trust_env=False).status_code == 303


def test_a_killed_server_loses_and_doubles_nothing(database_url: str, tmp_path: Path) -> None:
    shop_port, provider_port = free_port(), free_port()
    told = {
        "database_url": database_url,
        "provider_url": f"http://127.0.0.1:{provider_port}",
        "port": shop_port,
        "folder": str(tmp_path),
    }
    sent: list[int] = []
    with provider_at(provider_port, shop_port) as sandbox:
        with shop_process(**told, later=0) as process, _client(shop_port) as http:
            learner = register(http, "mei@example.org")
            with ThreadPoolExecutor(4) as pool:
                buying = [pool.submit(_buy_until_it_dies, http, sandbox, learner, n, sent) for n in range(4)]
                wait_for(lambda: len(sent) >= 14)
                process.send_signal(signal.SIGKILL)
                process.wait()
                answered = {key: order for worker in buying for key, order in worker.result().items()}
        with sandbox.books.writing():
            pass  # what the provider was doing is done
        # Restarted a little later, when requests that died are nobody's any more.
        with shop_process(**told, later=120), _client(shop_port) as http:
            learner = log_in(http, "mei@example.org")
            retried = {number: _order(http, learner, number) for number in sent}
            assert {answer.status_code for answer in retried.values()} == {201}
            for number, order_id in answered.items():
                assert retried[number].json()["id"] == order_id
            operator = _operator(http, database_url)
            first = http.post(f"{API}/reconciliations", json={}, headers=operator).json()
            assert first["clean"], first
            again = http.post(f"{API}/reconciliations", json={}, headers=operator).json()
            assert again["findings"] == []
            owned = _all(http, "/me/entitlements", learner)
            orders = _all(http, "/orders", learner)
        intents = sandbox.books.all("SELECT order_id, status FROM intents")
        held = provider_books(sandbox)
    paid = {row["order_id"] for row in intents if row["status"] == "succeeded"}
    assert len(orders) == len(sent) == len(intents) == len({row["order_id"] for row in intents})
    assert {order["id"] for order in orders if order["status"] == "paid"} == paid
    assert len(owned) == len(paid) > 0
    assert sum(order["total_minor"] for order in orders if order["status"] == "paid") == held
    assert len(answered) < len(sent), "nothing was in flight"


def _buy_until_it_dies(
    http: httpx.Client, sandbox: Sandbox, learner: dict[str, str], worker: int, sent: list[int]
) -> dict[int, str]:
    answered: dict[int, str] = {}
    for number in range(worker, 200, 4):
        sent.append(number)
        try:
            order = _order(http, learner, number)
        except httpx.HTTPError:
            break
        assert order.status_code == 201, order.text
        answered[number] = order.json()["id"]
        path, card = f"/intents/{order.json()['intent_id']}/confirm", json.dumps({"card": GOOD_CARD})
        assert sandbox.answer("POST", path, {}, {}, card.encode())[0] == 200
    return answered


def _order(http: httpx.Client, learner: dict[str, str], number: int) -> httpx.Response:
    wish = {"lines": [{"product_id": f"prd_{number}"}]}
    return http.post(f"{API}/orders", json=wish, headers={**learner, "Idempotency-Key": f"order-{number}"})


def _all(http: httpx.Client, path: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = http.get(f"{API}{path}?limit=100{cursor}", headers=headers).json()
        found += page["items"]
        if not page["has_more"]:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def _operator(http: httpx.Client, database_url: str) -> dict[str, str]:
    headers = register(http, "operator@example.org")
    database = Database(database_url)
    with database.writing() as session:
        set_roles(session, http.get(f"{API}/me", headers=headers).json()["id"], frozenset({"platform-operator"}), None)
    database.close()
    return headers


@contextmanager
def _client(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as http:
        wait_for(lambda: http.get("/healthz").status_code == 200)
        yield http
