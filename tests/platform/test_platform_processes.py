"""The commands as real processes: a server that is killed while orders are in flight, and one that is asked to end."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from platform_api import schema
from platform_api.cli import platform_app
from platform_api.database import Database
from platform_api.operations.volume import Volume, seed_volume
from platform_api.settings import PREFIX
from tests.money_cast import GOOD_CARD, KEY, SECRET
from tests.platform.test_platform_money_over_http import free_port, wait_for
from tests.platform_cast import API, PASSWORD

ROOT = Path(__file__).parents[2]
ZHIYIN = [sys.executable, "-c", "from simulations.console import main; main()", "platform"]


class Place:
    """A migrated marketplace with products, and the environment of its commands."""

    def __init__(self, folder: Path) -> None:
        self.port, self.provider_port = free_port(), free_port()
        self.url, self.provider = (f"http://127.0.0.1:{port}" for port in (self.port, self.provider_port))
        self.file = folder / "platform.db"
        told = {
            "DATABASE_URL": f"sqlite:///{self.file}",
            "SECRET_KEY": "a secret for tests, long enough to be one",
            "DATA_FOLDER": str(folder / "data"),
            "ERASURE_JOURNAL": str(folder / "erasures.txt"),
            "WEBHOOK_SECRET": SECRET,
            "PROVIDER_KEY": KEY,
            "PROVIDER_URL": self.provider,
            "PUBLIC_URL": self.url,
            "LOGINS_A_MINUTE": "1000",
            "WRITES_A_MINUTE": "100000",
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self.environment = {**clean, **{PREFIX + name: value for name, value in told.items()}, "PYTHONPATH": str(ROOT)}
        self.database = Database(told["DATABASE_URL"])
        schema.migrate(self.database)
        seed_volume(self.database, Volume(products=200, users=4, orders=0, tenants=2))
        self.database.close()

    @contextmanager
    def running(self, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        command = [*ZHIYIN, *map(str, arguments)]
        process = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @contextmanager
    def shop(self) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
        with (
            self.running("serve", "--port", self.port) as process,
            httpx.Client(base_url=self.url, timeout=30, trust_env=False) as http,
        ):
            wait_for(lambda: http.get("/readyz").status_code == 200, 60)
            yield process, http

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*ZHIYIN, *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )

    def rows(self, query: str) -> list[Any]:
        with self.database.reading() as session:
            found = list(session.execute(text(query)).all())
        self.database.close()
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def joined(http: httpx.Client) -> dict[str, str]:
    wish = {"email": "mei@example.org", "password": PASSWORD, "display_name": "梅"}
    assert http.post(f"{API}/accounts", json=wish).status_code == 201
    form = {"grant_type": "password", "username": "mei@example.org", "password": PASSWORD}
    return {"Authorization": f"Bearer {http.post(f'{API}/tokens', data=form).json()['access_token']}"}


def order(http: httpx.Client, learner: dict[str, str], number: int) -> httpx.Response:
    wish = {"lines": [{"product_id": f"prd_{number:026d}"}]}
    return http.post(f"{API}/orders", json=wish, headers={**learner, "Idempotency-Key": f"order-{number}"})


def buy_until_it_dies(
    http: httpx.Client, provider: str, learner: dict[str, str], worker: int, sent: list[int]
) -> dict[int, str]:
    answered: dict[int, str] = {}
    for number in range(worker, 200, 4):
        sent.append(number)
        try:
            placed = order(http, learner, number)
        except httpx.HTTPError:
            break
        assert placed.status_code == 201, placed.text
        answered[number] = placed.json()["id"]
        paying = f"{provider}/intents/{placed.json()['intent_id']}/confirm"
        assert httpx.post(paying, json={"card": GOOD_CARD}, trust_env=False).status_code == 200
    return answered


def test_a_killed_server_loses_and_doubles_nothing_once_reconciled(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    books = place.file.with_name("sandbox.db")
    with place.running("sandbox", "--port", place.provider_port, "--books", books):
        with place.shop() as (process, http):
            wait_for(lambda: httpx.get(f"{place.provider}/pay/x", trust_env=False).status_code == 200, 60)
            learner = joined(http)
            with ThreadPoolExecutor(4) as pool:
                buying = [pool.submit(buy_until_it_dies, http, place.provider, learner, n, sent) for n in range(4)]
                wait_for(lambda: len(sent) >= 9, 60)
                process.send_signal(signal.SIGKILL)
                answered = {number: one for worker in buying for number, one in worker.result().items()}
        assert len(answered) < len(sent), "nothing was in flight"
        with place.shop() as (_, http):
            done = place.run("reconcile", "--json")
            assert (done.returncode, json.loads(done.stdout)["clean"]) == (0, True), done
            # As if a minute had passed: requests that died with the server are nobody's any more.
            with place.database.writing() as session:
                session.execute(text("UPDATE idempotent_requests SET started_at = '2020-01-01 00:00:00'"))
            retried = {number: order(http, learner, number) for number in sent}
            assert {answer.status_code for answer in retried.values()} == {201}
            for number, order_id in answered.items():
                assert retried[number].json()["id"] == order_id
        with monkeypatch.context() as here:
            for name, value in place.environment.items():
                here.setenv(name, value)
            again = CliRunner().invoke(platform_app, ["reconcile", "--json"])
        assert json.loads(again.stdout)["findings"] == []
        key = {"Authorization": f"Bearer {KEY}"}
        intents = httpx.get(f"{place.provider}/intents", headers=key, trust_env=False).json()["items"]
    orders = {row.id: row for row in place.rows("SELECT id, status, total_minor FROM orders")}
    paid = {intent["order_id"]: intent["amount_minor"] for intent in intents if intent["status"] == "succeeded"}
    assert len(orders) == len(sent) == len(intents) == len({intent["order_id"] for intent in intents})
    assert {name: row.total_minor for name, row in orders.items() if row.status == "paid"} == paid
    assert len(place.rows("SELECT 1 FROM entitlements WHERE status = 'active'")) == len(paid) > 0
    held = place.rows("SELECT SUM(amount_minor) AS minor FROM postings WHERE account = 'provider-clearing'")
    assert held[0].minor == sum(paid.values())


def test_a_server_that_is_asked_to_end_answers_what_it_began_and_ends_well(place: Place) -> None:
    body = json.dumps({"email": "slow@example.org", "password": PASSWORD, "display_name": "slow"}).encode()
    head = (
        f"POST {API}/accounts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with place.shop() as (process, _), socket.create_connection(("127.0.0.1", place.port), timeout=30) as slow:
        slow.sendall(head + body[:10])
        wait_for(lambda: httpx.get(f"{place.url}/healthz", trust_env=False).status_code == 200)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: refused(place.port))
        assert process.poll() is None, "it ended while a request was in flight"
        slow.sendall(body[10:])
        answer = slow.makefile("rb").read()
        lines = [json.loads(line) for line in process.communicate(timeout=30)[0].splitlines()]
        assert process.returncode == 0
    assert answer.startswith(b"HTTP/1.1 201 ")
    # Closing the last connection takes the write-ahead log into the database and removes it.
    assert not place.file.with_name("platform.db-wal").exists()
    assert len(place.rows("SELECT 1 FROM users WHERE email = 'slow@example.org'")) == 1
    assert lines[-1]["event"] == "ended"
    assert "slow@example.org" not in json.dumps(lines)


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False
