"""Limits of requests, stated in headers: log-ins by address, writes by caller."""

import math
import time
from typing import Annotated

from fastapi import Depends, Request
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import storage_from_string
from limits.strategies import MovingWindowRateLimiter

from platform_api.problems import Problem
from platform_api.settings import Settings

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Rates:
    """Counts of this service. Counting per process or shared is the storage's business."""

    def __init__(self, settings: Settings) -> None:
        self._limiter = MovingWindowRateLimiter(storage_from_string(settings.rate_limit_storage))
        self.logins: RateLimitItem = RateLimitItemPerMinute(settings.logins_a_minute)
        self.writes: RateLimitItem = RateLimitItemPerMinute(settings.writes_a_minute)

    def take(self, limit: RateLimitItem, kind: str, whom: str) -> dict[str, str]:
        """Count one request; the headers that tell what is left. Raises Problem (429)."""
        allowed = self._limiter.hit(limit, kind, whom)
        window = self._limiter.get_window_stats(limit, kind, whom)
        wait = max(1, math.ceil(window.reset_time - time.time()))
        headers = {
            "RateLimit-Limit": str(limit.amount),
            "RateLimit-Remaining": str(max(0, window.remaining)),
            "RateLimit-Reset": str(wait),
        }
        if not allowed:
            raise Problem("too-many-requests", headers={**headers, "Retry-After": str(wait)})
        return headers


def count_write(request: Request, caller_id: str) -> None:
    """Count a request that may change something, by who makes it. Raises Problem (429)."""
    if request.method not in _READING:
        rates: Rates = request.app.state.rates
        _tell(request, rates.take(rates.writes, "write", caller_id))


async def _attempt(request: Request) -> None:
    rates: Rates = request.app.state.rates
    address = request.client.host if request.client else "unknown"
    _tell(request, rates.take(rates.logins, "login", address))


# Stated before any turn or transaction, so that one attempt too many waits for nothing.
Attempt = Annotated[None, Depends(_attempt)]


def _tell(request: Request, headers: dict[str, str]) -> None:
    # Put on every answer, refusals included; where two limits were counted, the later one is told.
    request.state.headers = {**getattr(request.state, "headers", {}), **headers}
