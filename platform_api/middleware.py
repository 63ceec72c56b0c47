"""What every request goes through, outermost first: an id, a log line and counts; limits of size; headers; ETags."""

import re
import time
from collections.abc import Sequence
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from platform_api.columns import new_id
from platform_api.etags import body_etag, matches
from platform_api.logs import described
from platform_api.problems import problem_response

# Anything may be sent as a method; these alone become labels and log values.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Strict-Transport-Security": "max-age=31536000",
}


class Metrics:
    """Counts by route template and status; never a path, a query or an id."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("zhiyin_requests", "Answered requests", labels, registry=self.registry)
        self.seconds = Histogram("zhiyin_request_seconds", "Time to answer", ("route",), registry=self.registry)


class Observed:
    """Gives each request an id, logs one line and counts it. Paths, queries and bodies are in neither.

    What nobody caught becomes an answer here, so that it has the id and the headers of every other one: the framework
    would answer it further outside.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        status, answering = 500, False
        began = time.perf_counter()

        async def observed(message: Message) -> None:
            nonlocal status, answering
            if message["type"] == "http.response.start":
                status, answering = message["status"], True
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
                for name, value in scope["state"].get("headers", {}).items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-cache, private")
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception as error:
            structlog.get_logger("platform").error("request failed", request_id=request_id, **described(error))
            if answering:  # half an answer is out: the server breaks the connection off
                raise
            await problem_response(Request(scope), "internal")(scope, receive, observed)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            structlog.get_logger("platform").info(
                "request",
                request_id=request_id,
                method=method,
                route=route,
                status=status,
                milliseconds=round(1000 * seconds, 1),
            )


class Limited:
    """Refuses bodies above the limit, declared or not. larger: limits of their own for paths that match."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, larger: Sequence[tuple[re.Pattern[str], int]] = ()) -> None:
        self._app, self._limit, self._larger = app, max_body_bytes, larger

    def _limit_of(self, path: str) -> int:
        return next((limit for pattern, limit in self._larger if pattern.fullmatch(path)), self._limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > limit:
            await self._refusal(scope, limit)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                # The framework turns any other error met while reading a body into 400.
                raise HTTPException(413, f"a body may have {limit} bytes")
            return message

        await self._app(scope, counted, send)

    def _refusal(self, scope: Scope, limit: int) -> Any:
        return problem_response(Request(scope), "too-large", f"a body may have {limit} bytes")


class Tagged:
    """Gives JSON answers to GET the digest of their body as ETag where the route stated none, and answers 304."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        wanted = Headers(scope=scope).get("if-none-match", "")
        start: Message | None = None
        body = b""

        async def tagged(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                if message["status"] == 200 and _is_json(message):
                    start = message
                    return
            elif start is not None:
                body += message.get("body", b"")
                if message.get("more_body"):
                    return
                headers = MutableHeaders(scope=start)
                headers.setdefault("ETag", body_etag(body))
                if wanted and matches(wanted, headers["ETag"]):
                    for name in ("content-length", "content-type"):
                        if name in headers:
                            del headers[name]
                    start["status"] = 304
                    body = b""
                await send(start)
                await send({"type": "http.response.body", "body": body})
                return
            await send(message)

        await self._app(scope, receive, tagged)


def _is_json(message: Message) -> bool:
    return Headers(raw=message["headers"]).get("content-type", "").startswith("application/json")
