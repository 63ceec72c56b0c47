"""Whose word the web server takes for where a request came from."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from platform_api.operations.serving import Listening, bound, web_server
from tests.platform.test_platform_money_over_http import wait_for


async def _who(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.client.host if request.client else "")


@contextmanager
def served(trusted_proxies: str) -> Iterator[httpx.Client]:
    server = web_server(Starlette(routes=[Route("/", _who)]), Listening(trusted_proxies=trusted_proxies))
    with bound("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_for(lambda: server.started)
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=url, trust_env=False) as http:
                yield http
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.parametrize(
    ("trusted_proxies", "believed"),
    [("", "127.0.0.1"), ("10.0.0.0/8", "127.0.0.1"), ("127.0.0.0/8", "203.0.113.7"), ("127.0.0.1", "203.0.113.7")],
)
def test_only_a_trusted_proxy_says_where_a_request_came_from(trusted_proxies: str, believed: str) -> None:
    with served(trusted_proxies) as http:
        answer = http.get("/", headers={"X-Forwarded-For": "203.0.113.7"})
    assert answer.text == believed
    assert "server" not in answer.headers
