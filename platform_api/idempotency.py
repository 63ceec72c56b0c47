"""Requests that move money happen once, however often they are sent.

A row for (caller, key) is committed before any work, so two requests at once cannot both begin. The answer is saved in
the same transaction as the work: after a crash the row is either unfinished with nothing done, or finished with the
answer that is replayed.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse, Response
from sqlalchemy import Column
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel

from platform_api.access import KnownCaller
from platform_api.clock import Now
from platform_api.columns import UtcDateTime
from platform_api.database import Database
from platform_api.problems import Problem

# A request that has not ended by then died with its process; the same request may take its place.
_ABANDONED_AFTER = timedelta(seconds=60)


class IdempotentRequest(SQLModel, table=True):
    """One key of one caller. status_code is 0 while the work is being done."""

    __tablename__ = "idempotent_requests"

    caller_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True, max_length=255)
    request_digest: str
    started_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
    status_code: int = 0
    body: str = ""


class Once:
    """Given to a route by dependency; `run` does the work or replays the answer."""

    def __init__(self, database: Database, caller_id: str, key: str, digest: str, now: datetime) -> None:
        self._database, self._now, self._digest = database, now, digest
        self._place = (caller_id, key)
        self.key = key

    def run(self, work: Callable[[Session], tuple[int, Any]]) -> Response:
        """work(session) -> (status, body), in one transaction with the saved answer.

        A Problem or crash leaves nothing behind, the key included, so that the request may be tried again.
        """
        replayed = self._begin()
        if replayed is not None:
            return replayed
        try:
            with self._database.writing() as session:
                status, body = work(session)
                text = json.dumps(jsonable_encoder(body), ensure_ascii=False)
                row = session.get_one(IdempotentRequest, self._place)
                row.status_code, row.body = status, text
        except BaseException:
            self._forget()
            raise
        return _answer(status, text)

    def _begin(self) -> Response | None:
        caller_id, key = self._place
        fresh = IdempotentRequest(
            caller_id=caller_id, key=key, request_digest=self._digest, started_at=self._now, status_code=0, body=""
        )
        try:
            with self._database.writing() as session:
                session.add(fresh)
            return None
        except IntegrityError:
            pass
        with self._database.writing() as session:
            row = session.get(IdempotentRequest, self._place, with_for_update=True)
            if row is None or (row.status_code == 0 and row.started_at < self._now - _ABANDONED_AFTER):
                if row is not None and row.request_digest != self._digest:
                    raise Problem("key-reused")
                if row is not None:
                    row.started_at = self._now
                    return None
                raise Problem("in-progress", headers={"Retry-After": "1"})
            if row.request_digest != self._digest:
                raise Problem("key-reused")
            if row.status_code == 0:
                raise Problem("in-progress", headers={"Retry-After": "1"})
            return _answer(row.status_code, row.body, replayed=True)

    def _forget(self) -> None:
        with self._database.writing() as session:
            row = session.get(IdempotentRequest, self._place)
            if row is not None and row.status_code == 0:
                session.delete(row)


def _answer(status: int, text: str, *, replayed: bool = False) -> Response:
    headers = {"Idempotency-Replayed": "true"} if replayed else {}
    return JSONResponse(json.loads(text), status_code=status, headers=headers)


async def _once(
    request: Request,
    caller: KnownCaller,
    now: Now,
    idempotency_key: Annotated[str | None, Header(description="1 to 255 printable ASCII characters")] = None,
) -> Once:
    if not idempotency_key or len(idempotency_key) > 255 or not idempotency_key.isprintable():
        raise Problem("idempotency-key-missing")
    told = f"{request.method} {request.url.path}\n".encode() + await request.body()
    digest = hashlib.sha256(told).hexdigest()
    return Once(request.app.state.database, caller.id, idempotency_key, digest, now)


OnceOnly = Annotated[Once, Depends(_once)]
