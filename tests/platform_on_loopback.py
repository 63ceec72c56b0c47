"""The service and the sandbox provider in threads of this process, over real loopback HTTP."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi.testclient import TestClient

from platform_api.app import create_app
from platform_api.sandbox.provider import Sandbox, utc_now
from platform_api.sandbox.service import sandbox_app
from tests.money_cast import KEY, SECRET
from tests.platform_cast import API, PASSWORD, Hand, Shop, settings_for
from tests.platform_histories import publish


@dataclass(frozen=True, kw_only=True)
class Running:
    """Where it is, and the log-in of a platform operator."""

    url: str
    sandbox_url: str
    operator: str
    password: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for(what: Any, seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(httpx.HTTPError):
            if found := what():
                return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


@contextmanager
def served(app: Any, port: int) -> Iterator[str]:
    """An ASGI application in a thread, until the end of the block."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def running_platform(ready_url: str, folder: Path) -> Iterator[Running]:
    """The whole service on a database with empty tables, with an operator, a policy and a provider that calls back."""
    port, sandbox_port = free_port(), free_port()
    url, sandbox_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{sandbox_port}"
    settings = settings_for(ready_url, folder / "data", public_url=url, provider_url=sandbox_url, provider_key=KEY)
    app = create_app(settings)
    sandbox = Sandbox(webhook_secret=SECRET, api_key=KEY, clock=utc_now, public_url=sandbox_url)
    shop = Shop(TestClient(app, base_url=url), Hand(), settings)
    operator = shop.register("operator@example.org", "platform-operator")
    publish(shop)
    with served(sandbox_app(sandbox, f"{url}{API}/webhooks/payments"), sandbox_port), served(app, port):
        yield Running(url=url, sandbox_url=sandbox_url, operator=operator.email, password=PASSWORD)
