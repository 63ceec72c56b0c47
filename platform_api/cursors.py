"""Pages of lists: an opaque, signed cursor names the last entry of the page before, never a number of rows."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, Field

from platform_api.problems import Problem
from platform_api.secrets_of import derived_key

Row = TypeVar("Row")
Entry = TypeVar("Entry")


class Page(BaseModel, Generic[Entry]):
    """One page of a list."""

    items: list[Entry]
    has_more: bool
    next_cursor: str | None = Field(default=None, description="give it back as `cursor`, with the same filters")


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """What a caller asked for. after: the sort key of the last entry it has, None for the first page."""

    limit: int
    after: tuple[Any, ...] | None
    _request: Request

    @property
    def after_id(self) -> str | None:
        """For lists that are sorted by one text."""
        return None if self.after is None else str(self.after[0])

    def page(
        self,
        response: Response,
        rows: Sequence[Row],
        key: Callable[[Row], tuple[Any, ...]],
        entry: Callable[[Row], Entry],
    ) -> Page[Entry]:
        """A page from up to limit + 1 rows that follow `after`; key gives a row's sort key as JSON values."""
        shown = rows[: self.limit]
        more = len(rows) > self.limit
        cursor = _sign(self._request, key(shown[-1])) if more else None
        if cursor is not None:
            url = self._request.url.include_query_params(cursor=cursor)
            response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return Page(items=[entry(row) for row in shown], has_more=more, next_cursor=cursor)


async def _page_request(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=600)] = None,
) -> PageRequest:
    return PageRequest(limit=limit, after=None if cursor is None else _open(request, cursor), _request=request)


Paging = Annotated[PageRequest, Depends(_page_request)]


def _purpose(request: Request) -> bytes:
    # A cursor is good for the list that it was made for, with the same filters.
    filters = sorted((name, value) for name, value in request.query_params.multi_items() if name not in _FREE)
    return json.dumps([request.url.path, filters]).encode()


_FREE = ("cursor", "limit")


def _sign(request: Request, key: tuple[Any, ...]) -> str:
    payload = json.dumps(key, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_tag(request, payload) + payload).decode().rstrip("=")


def _open(request: Request, cursor: str) -> tuple[Any, ...]:
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        raise Problem("bad-cursor") from None
    if not hmac.compare_digest(raw[:16], _tag(request, raw[16:])):
        raise Problem("bad-cursor")
    return tuple(json.loads(raw[16:]))


def _tag(request: Request, payload: bytes) -> bytes:
    key = derived_key(request.app.state.settings, "cursor")
    return hmac.new(key, _purpose(request) + b"\x00" + payload, hashlib.sha256).digest()[:16]
