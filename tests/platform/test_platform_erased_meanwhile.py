"""Requests of a person who is erased while they wait: refused like any that come later, and nothing is left behind."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, text
from sqlmodel import Session, col, select

from platform_api.accounts import service
from platform_api.accounts.tables import User
from platform_api.columns import metadata
from platform_api.database import ALIVE
from tests.catalogue_cast import open_market
from tests.money_cast import Rack, thing
from tests.platform.test_platform_many_at_once import at_once
from tests.platform_cast import API, PASSWORD, Person, Shop
from tests.platform_histories import publish

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
WISH = {
    "kind": "course", "title": "x", "description": "x", "content": "x", "language": "en", "category": "privacy",
    "price_minor": 0, "currency": "CNY",
}  # fmt: skip
# What leaves something of a person behind. Orders have a key, and hold the person themselves.
REQUESTS |= {
    "order": lambda person: person.post("/orders", {"lines": [{"product_id": "prd_free"}]}, key="k"),
    "product": lambda person: person.post("/products", WISH),
    "consent": lambda person: person.send("PUT", "/me/consents", {"purposes": {"training": True}, "policy_version": 1}),
    "profile": lambda person: person.send("PATCH", "/me", {"display_name": "Mei"}),
    "switch": lambda person: person.send("PUT", "/me/recommendation-settings", {"personalised": False}),
}


def until_somebody_waits(session: Session) -> None:
    """Until another transaction waits for a lock of this one."""
    if session.get_bind().dialect.name == "sqlite":  # which does not tell
        time.sleep(0.3)
        return
    end = time.monotonic() + 10
    while not session.execute(text("SELECT COUNT(*) FROM pg_locks WHERE NOT granted")).scalar_one():
        assert time.monotonic() < end, "nobody waits"
        time.sleep(0.01)


def traces(shop: Shop, person: Person) -> dict[str, int]:
    """Rows that name a person, by table; the account's own, from which everything was taken, does not count."""
    found = {}
    with shop.app.state.database.reading() as session:
        for table in metadata.tables.values():
            for column in {"user_id", "caller_id"} & set(table.columns.keys()):
                wanted = select(func.count()).where(table.columns[column] == person.id)
                found[table.name] = int(session.execute(wanted).scalar_one())
        left = session.get_one(User, person.id)
        assert (left.email, left.display_name, left.password_hash) == (None, "", "")
    return {name: count for name, count in found.items() if count}


def log_in(person: Person) -> Any:
    form = {"grant_type": "password", "username": person.email, "password": PASSWORD}
    return person.http.post(f"{API}/tokens", data=form)


def rows(shop: Shop, table: str) -> int:
    with shop.app.state.database.reading() as session:
        return int(session.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one())


@pytest.mark.parametrize("kind", list(REQUESTS))
def test_whoever_is_erased_while_a_request_waits_is_refused(shop: Shop, kind: str) -> None:
    person = shop.register(None, "creator")
    open_market(shop)
    shop.app.state.shelf = rack = Rack()
    rack.put(thing("prd_free", 0))
    publish(shop)
    with ThreadPoolExecutor(1) as pool:
        with shop.app.state.database.writing() as session:
            session.exec(select(User).where(col(User.id) == person.id).with_for_update(**ALIVE)).one()
            waiting = pool.submit(REQUESTS[kind], person)
            until_somebody_waits(session)
            assert not waiting.done(), waiting.result().text
            service.erase_account(session, person.id, shop.clock.now)
        answer = waiting.result(timeout=20)
    assert answer.status_code == 401, answer.text
    assert traces(shop, person) == {}


def test_a_log_in_that_waits_while_its_password_is_changed_is_refused(shop: Shop) -> None:
    person = shop.register()
    with ThreadPoolExecutor(1) as pool:
        with shop.app.state.database.writing() as session:
            user = session.get_one(User, person.id, with_for_update=ALIVE)
            waiting = pool.submit(log_in, person)
            until_somebody_waits(session)
            service.change_password(session, person.id, user.password_hash, "another hash", shop.clock.now)
        answer = waiting.result(timeout=20)
    assert answer.status_code == 401, answer.text


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_log_out_that_meets_the_sweep_of_its_log_in_is_answered_as_any(shop: Shop, everywhere: bool) -> None:
    person = shop.register()
    leave = f"/logout?everywhere={str(everywhere).lower()}"
    with ThreadPoolExecutor(1) as pool:
        with shop.app.state.database.writing() as session:
            # What a sweep does to a log-in whose refresh tokens have run out, its short token still being good.
            session.execute(text("DELETE FROM refresh_tokens"))
            session.execute(text("DELETE FROM login_families"))
            waiting = pool.submit(person.post, leave)
            until_somebody_waits(session)
        answer = waiting.result(timeout=20)
    assert answer.status_code == 204, answer.text
    assert rows(shop, "login_families") == 0


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


def test_an_operator_who_is_erased_while_a_secret_is_hashed_enrols_no_program(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = shop.register(None, "platform-operator")
    hash_of = service.hash_of

    def erased_meanwhile(secret: str) -> str:
        assert operator.post("/me/erase", {"password": PASSWORD}).status_code == 200
        return hash_of(secret)

    with monkeypatch.context() as patch:
        patch.setattr(service, "hash_of", erased_meanwhile)
        answer = operator.post("/clients", {"name": "program", "scopes": ["models:publish"], "tenant_id": None})
    assert answer.status_code == 401, answer.text
    with shop.app.state.database.reading() as session:
        assert session.execute(text("SELECT count(*) FROM machine_clients")).scalar_one() == 0
