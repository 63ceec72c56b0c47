"""The sandbox as a small ASGI service on a port of its own, with a thread that delivers its messages."""

import html
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from threading import Event, Thread

import httpx
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from platform_api.sandbox.provider import CARDS, Sandbox

_EVERY_SECONDS = 0.2


def sandbox_app(sandbox: Sandbox, webhook_url: str | None) -> Starlette:
    """The service. webhook_url: where messages are delivered while it runs, None for nowhere."""

    async def api(request: Request) -> Response:
        body = await request.body()
        status, said = await run_in_threadpool(
            sandbox.answer, request.method, request.url.path, request.query_params, request.headers, body
        )
        return JSONResponse(said, status_code=status)

    async def page(request: Request) -> Response:
        return _pay_page(request.path_params["intent_id"], request.query_params.get("status", ""))

    async def pay(request: Request) -> Response:
        intent_id = request.path_params["intent_id"]
        card = (await request.body()).decode("ascii", "replace").removeprefix("card=")
        body = b'{"card": "%s"}' % (card.encode() if card in CARDS else b"")
        status, said = await run_in_threadpool(sandbox.answer, "POST", f"/intents/{intent_id}/confirm", {}, {}, body)
        word = said["status"] if status == 200 else said["code"]
        return RedirectResponse(f"/pay/{intent_id}?status={word}", status_code=303)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        stop = Event()
        courier = Thread(target=_deliver, args=(sandbox, webhook_url, stop), daemon=True)
        courier.start()
        yield
        stop.set()
        await run_in_threadpool(courier.join)
        sandbox.books.close()

    routes = [
        Route("/pay/{intent_id:str}", page, methods=["GET"]),
        Route("/pay/{intent_id:str}", pay, methods=["POST"]),
        Route("/{rest:path}", api, methods=["GET", "POST", "PUT"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def courier_to(client: httpx.Client, webhook_url: str) -> Callable[[dict[str, str], bytes], int]:
    """Sends one message over HTTP; 0 where nobody answers."""

    def send(headers: dict[str, str], body: bytes) -> int:
        try:
            return client.post(webhook_url, content=body, headers=headers).status_code
        except httpx.HTTPError:
            return 0

    return send


def _deliver(sandbox: Sandbox, webhook_url: str | None, stop: Event) -> None:
    with httpx.Client(timeout=10, trust_env=False) as client:
        send = courier_to(client, webhook_url) if webhook_url else lambda headers, body: 200
        while not stop.wait(_EVERY_SECONDS):
            sandbox.step(send)


def _pay_page(intent_id: str, status: str) -> HTMLResponse:
    cards = "".join(f"<option value={card}>{card} ({outcome})" for card, outcome in CARDS.items())
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Sandbox payment</title>"
        f"<h1>Sandbox payment {html.escape(intent_id)}</h1><p>{html.escape(status)}</p>"
        f"<form method=post><select name=card>{cards}</select><button>Pay</button></form>"
    )
