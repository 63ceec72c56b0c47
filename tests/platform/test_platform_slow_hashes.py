"""Hashing a password is slow on purpose; nobody else waits for it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from platform_api.accounts import service
from tests.platform.test_platform_erased_meanwhile import REQUESTS
from tests.platform_cast import API, PASSWORD, Shop

WISH = {"email": "new@example.org", "password": PASSWORD, "display_name": "x"}
SLOW = {
    **{kind: REQUESTS[kind] for kind in ("erase", "change of password", "log-in")},
    "register": lambda person: person.http.post(f"{API}/accounts", json=WISH),
    "enrol a program": lambda person: person.post(
        "/clients",
        {"name": "x", "scopes": ["catalog:write"], "tenant_id": person.post("/tenants", {"name": "x"}).json()["id"]},
    ),
    # Nobody's secret takes as long to check as somebody's.
    "program's log-in": lambda person: person.http.post(
        f"{API}/tokens", data={"grant_type": "client_credentials", "client_id": "cli_0", "client_secret": "x"}
    ),
}
# The old password is checked and the new one hashed.
HASHES = {"change of password": 2}


@pytest.mark.parametrize("kind", list(SLOW))
def test_others_write_while_a_password_is_hashed(shop: Shop, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mei, li = shop.register(None, "platform-operator"), shop.register()
    plain, hashing, go_on = service.HASHER, threading.Event(), threading.Event()
    connections, held = shop.app.state.database.engine.pool, []

    class Slow:
        def __getattr__(self, name: str) -> Any:
            held.append(connections.checkedout())
            hashing.set()
            assert go_on.wait(20)
            return getattr(plain, name)

    monkeypatch.setattr(service, "HASHER", Slow())
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(SLOW[kind], mei)
        try:
            assert hashing.wait(10)
            change = pool.submit(li.send, "PATCH", "/me", {"display_name": "other"})
            assert change.result(timeout=5).status_code == 200
            assert not slow.done()
        finally:
            go_on.set()
        expected = (401,) if kind == "program's log-in" else (200, 201, 204)
        assert slow.result(timeout=20).status_code in expected
    # On PostgreSQL others write all the same; but a connection is held, of which there are fewer than who may wait.
    assert held == [0] * HASHES.get(kind, 1)
