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
}


@pytest.mark.parametrize("kind", list(SLOW))
def test_others_write_while_a_password_is_hashed(shop: Shop, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mei, li = shop.register(), shop.register()
    plain, hashing, go_on = service.HASHER, threading.Event(), threading.Event()

    class Slow:
        def __getattr__(self, name: str) -> Any:
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
        assert slow.result(timeout=20).status_code in (200, 201, 204)
