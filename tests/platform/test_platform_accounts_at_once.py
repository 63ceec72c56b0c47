"""The same thing asked of accounts by many at once: one is done, the others are told why not, none fails."""

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import text

from platform_api.accounts import queries
from tests.platform.test_platform_many_at_once import at_once
from tests.platform_cast import API, PASSWORD, Person, Shop

MANY = 12


def count(shop: Shop, wanted: str, **values: Any) -> int:
    with shop.app.state.database.reading() as session:
        return int(session.execute(text(wanted), values).scalar_one())


def as_person(person: Person, method: str, path: str, body: Any) -> tuple[str, str, dict[str, Any]]:
    return (method, API + path, {"headers": person.headers, "json": body})


def test_one_address_registered_by_many_at_once_is_one_account(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    # All of them look before the first is written.
    monkeypatch.setattr("platform_api.accounts.service.user_by_email", lambda *_: None)
    wish = {"email": "mei@example.org", "password": PASSWORD, "display_name": "x"}
    statuses = Counter(at_once(shop, [("POST", f"{API}/accounts", {"json": wish})] * MANY))
    assert statuses == {201: 1, 409: MANY - 1}
    monkeypatch.undo()
    assert count(shop, "SELECT COUNT(*) FROM users WHERE email = 'mei@example.org'") == 1
    assert count(shop, "SELECT COUNT(*) FROM user_roles") == 1


def test_one_name_of_a_tenant_asked_for_by_many_at_once_is_one_tenant(shop: Shop) -> None:
    operator = shop.join(None, "platform-operator")
    statuses = Counter(at_once(shop, [as_person(operator, "POST", "/tenants", {"name": "Academy"})] * MANY))
    assert statuses == {201: 1, 409: MANY - 1}
    assert count(shop, "SELECT COUNT(*) FROM tenants") == 1


def test_roles_given_to_one_person_many_times_at_once_are_those_of_one_request(shop: Shop) -> None:
    operator, person = shop.join(None, "platform-operator"), shop.join()
    wishes = [["creator", "reviewer"], ["reviewer", "researcher"], ["creator", "researcher"]]
    path = f"/users/{person.id}/roles"
    for _ in range(3):
        asked = [as_person(operator, "PUT", path, {"roles": wishes[number % 3]}) for number in range(MANY)]
        assert at_once(shop, asked) == [200] * MANY
        with shop.app.state.database.reading() as session:
            roles = queries.roles_of(session, person.id)
        assert roles in [frozenset({"learner", *wish}) for wish in wishes]
