"""More requests at once than there are threads and connections: they take turns, and none waits for a time-out."""

import asyncio
import time
from typing import Any

import httpx2
import pytest

from tests.platform_cast import API, Shop

MANY = 90


def at_once(shop: Shop, requests: list[tuple[str, str, dict[str, Any]]]) -> list[int]:
    """The statuses of requests that are all sent before the first is answered."""

    async def send() -> list[int]:
        transport = httpx2.ASGITransport(app=shop.app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url=shop.settings.public_url, timeout=60) as http:
            answers = await asyncio.gather(*(http.request(method, path, **told) for method, path, told in requests))
        return [answer.status_code for answer in answers]

    return asyncio.run(send())


@pytest.mark.parametrize("kind", ["writes", "reads", "both"])
def test_more_requests_than_threads_are_all_answered_soon(shop: Shop, kind: str) -> None:
    person = shop.register()
    writes = [
        ("PATCH", f"{API}/me", {"headers": person.headers, "json": {"display_name": f"{n}"}}) for n in range(MANY)
    ]
    reads = [("GET", f"{API}/me", {"headers": person.headers})] * MANY
    began = time.monotonic()
    statuses = at_once(shop, {"writes": writes, "reads": reads, "both": writes[::2] + reads[::2]}[kind])
    assert set(statuses) == {200}
    # The database gives up on a lock, and the pool on a connection, after 30 s.
    assert time.monotonic() - began < 20
