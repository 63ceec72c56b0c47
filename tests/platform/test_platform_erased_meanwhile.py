"""Requests of a person who is erased while they wait: refused like any that come later, and nothing is left behind."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import col, select

from platform_api.accounts import service
from platform_api.accounts.tables import User
from tests.platform.test_platform_many_at_once import at_once
from tests.platform_cast import API, PASSWORD, Person, Shop

REQUESTS: dict[str, Any] = {
    "erase": lambda person: person.post("/me/erase", {"password": PASSWORD}),
    "change of password": lambda person: person.send(
        "PUT", "/me/password", {"old_password": PASSWORD, "new_password": "another long password"}
    ),
    "log-in": lambda person: log_in(person),
    "refresh": lambda person: person.http.post(
        f"{API}/tokens", data={"grant_type": "refresh_token", "refresh_token": person.refresh_token}
    ),
}


def log_in(person: Person) -> Any:
    form = {"grant_type": "password", "username": person.email, "password": PASSWORD}
    return person.http.post(f"{API}/tokens", data=form)


def rows(shop: Shop, table: str) -> int:
    with shop.app.state.database.reading() as session:
        return int(session.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one())


@pytest.mark.parametrize("kind", list(REQUESTS))
def test_whoever_is_erased_while_a_request_waits_is_refused(shop: Shop, kind: str) -> None:
    person = shop.register()
    with ThreadPoolExecutor(1) as pool:
        with shop.app.state.database.writing() as session:
            session.exec(select(User).where(col(User.id) == person.id).with_for_update()).one()
            waiting = pool.submit(REQUESTS[kind], person)
            time.sleep(0.5)
            assert not waiting.done(), waiting.result().text
            service.erase_account(session, person.id, shop.clock.now)
        answer = waiting.result(timeout=20)
    assert answer.status_code == 401, answer.text
    assert rows(shop, "login_families") == 0
    assert rows(shop, "refresh_tokens") == 0


def test_erasing_oneself_many_times_at_once_is_done_once_and_fails_never(shop: Shop) -> None:
    person = shop.register()
    erase = ("POST", f"{API}/me/erase", {"headers": person.headers, "json": {"password": PASSWORD}})
    assert Counter(at_once(shop, [erase] * 6)) == {200: 1, 401: 5}


def test_log_ins_at_the_moment_of_an_erasure_leave_none_behind(shop: Shop) -> None:
    person = shop.register()
    erase = ("POST", f"{API}/me/erase", {"headers": person.headers, "json": {"password": PASSWORD}})
    form = {"grant_type": "password", "username": person.email, "password": PASSWORD}
    enter = ("POST", f"{API}/tokens", {"data": form})
    statuses = at_once(shop, [enter] * 4 + [erase] + [enter] * 8)
    assert statuses[4] == 200
    assert set(statuses) <= {200, 401}
    assert rows(shop, "login_families") == 0
