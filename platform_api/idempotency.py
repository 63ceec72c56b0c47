"""Requests that move money happen once, however often they are sent.

A row for (caller, key) is committed before any work, so two requests at once cannot both begin. Work in one
transaction saves its answer in that transaction: after a crash the row is either unfinished with nothing done, or
finished with the answer that is replayed. Work that asks a payment provider in the middle runs in steps: the first
transaction commits what was begun and names it in the row, so that the next try goes on with the same thing.

No transaction is open while a step outside the database runs, and none of the caller's may be open around `run`: on
SQLite the two would wait for each other.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar

import structlog
from fastapi import Depends, Header, Request
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse, Response
from sqlalchemy import Column
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlmodel import Field, Session, SQLModel, col, delete

from platform_api.access import KnownCaller
from platform_api.clock import Now
from platform_api.columns import UtcDateTime, new_id
from platform_api.database import Database, Errand, hold_caller
from platform_api.problems import Problem

# A request that has not ended by then died with its process; the same request may take its place.
ABANDONED_AFTER = timedelta(seconds=60)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
Outcome = TypeVar("Outcome")


class IdempotentRequest(SQLModel, table=True):
    """One key of one caller. status_code is 0 until the work is done; begun: id of what the first step has committed.

    attempt: who is working on it, "" for nobody. One that was thought dead finds another's here, and ends.
    """

    __tablename__ = "idempotent_requests"

    caller_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True, max_length=255)
    request_digest: str
    started_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False, index=True))
    attempt: str
    begun: str = ""
    status_code: int = 0
    body: str = ""


@dataclass(frozen=True, kw_only=True)
class Steps(Generic[Outcome]):
    """Work that leaves the database in the middle.

    begin(session) commits the thing and gives its id; outside(id) asks somebody else, with no transaction open and so
    that asking twice does no harm; finish(session, id, outcome) -> (status, body), in one transaction with the answer.
    """

    begin: Callable[[Session], str]
    outside: Callable[[str], Outcome]
    finish: Callable[[Session, str, Outcome], tuple[int, Any]]


class Once:
    """Given to a route by dependency; `run` and `run_steps` do the work or replay the answer."""

    def __init__(
        self,
        database: Database,
        caller_id: str,
        key: str,
        digest: str,
        now: datetime,
        *,
        hold: Callable[[Session], None] = lambda session: None,
    ) -> None:
        """hold(session): the first lock of each transaction that works; raises Problem where the caller is gone."""
        self._database, self._now, self._digest, self._hold = database, now, digest, hold
        self._place = (caller_id, key)
        self._attempt = new_id("try")

    def run(self, work: Callable[[Session], tuple[int, Any]]) -> Response:
        """work(session) -> (status, body), in one transaction with the saved answer.

        A Problem or crash leaves nothing behind, the key included, so that the request may be tried again.
        """
        claimed = self._claim()
        if isinstance(claimed, Response):
            return claimed
        try:
            return self._finish(work)
        except BaseException:
            self._release()
            raise

    def run_steps(self, steps: Steps[Outcome]) -> Response:
        """Work in steps. After `begin` was committed, another try with the key goes on from there."""
        claimed = self._claim()
        if isinstance(claimed, Response):
            return claimed
        begun = claimed
        try:
            if not begun:
                with self._database.writing() as session:
                    row = self._own(session)
                    begun = steps.begin(session)
                    row.begun = begun
            outcome = steps.outside(begun)
            return self._finish(lambda session: steps.finish(session, begun, outcome))
        except BaseException:
            self._release()
            raise

    def _claim(self) -> Response | str:
        """The saved answer, or the id of what an earlier try began ("" for nothing): the row is ours from now on."""
        caller_id, key = self._place
        for _ in range(3):
            try:
                with self._database.writing() as session:
                    session.add(
                        IdempotentRequest(
                            caller_id=caller_id,
                            key=key,
                            request_digest=self._digest,
                            started_at=self._now,
                            attempt=self._attempt,
                        )
                    )
                return ""
            except IntegrityError:
                found = self._take_over()
            if found is not None:
                return found
        raise _in_progress()

    def _take_over(self) -> Response | str | None:
        with self._database.writing() as session:
            row = session.get(IdempotentRequest, self._place, with_for_update=True)
            if row is None:  # released since: it is free again
                return None
            if row.request_digest != self._digest:
                raise Problem("key-reused")
            if row.status_code:
                return _answer(row.status_code, row.body, replayed=True)
            if row.attempt and row.started_at > self._now - ABANDONED_AFTER:
                raise _in_progress()
            row.attempt, row.started_at = self._attempt, self._now
            return row.begun

    def _finish(self, work: Callable[[Session], tuple[int, Any]]) -> Response:
        with self._database.writing() as session:
            row = self._own(session)
            status, body = work(session)
            text = json.dumps(jsonable_encoder(body), ensure_ascii=False)
            row.status_code, row.body, row.attempt = status, text, ""
        return _answer(status, text)

    def _own(self, session: Session) -> IdempotentRequest:
        # The caller before the key, as erasing does it.
        self._hold(session)
        # Locked before the work: one that was taken for dead and goes on late must not do the work a second time.
        row = session.get(IdempotentRequest, self._place, with_for_update=True)
        if row is None or row.attempt != self._attempt:
            raise _in_progress()
        return row

    def _release(self) -> None:
        """Let the next try begin, or go on with what was begun. The error that led here is the one to report."""
        try:
            with self._database.writing() as session:
                row = session.get(IdempotentRequest, self._place, with_for_update=True)
                if row is None or row.attempt != self._attempt:
                    return
                if row.begun:
                    row.attempt = ""
                else:
                    session.delete(row)
        except SQLAlchemyError as error:
            structlog.get_logger("platform").warning("an idempotency key stays taken", error=type(error).__name__)


def forget_requests_of(session: Session, caller_id: str) -> None:
    """Remove every saved answer of one caller."""
    session.exec(delete(IdempotentRequest).where(col(IdempotentRequest.caller_id) == caller_id))


def _in_progress() -> Problem:
    return Problem("in-progress", headers={"Retry-After": "1"})


def _answer(status: int, text: str, *, replayed: bool = False) -> Response:
    headers = {"Idempotency-Replayed": "true"} if replayed else {}
    return JSONResponse(json.loads(text), status_code=status, headers=headers)


async def _once(
    request: Request,
    caller: KnownCaller,
    now: Now,
    errand: Errand,
    idempotency_key: Annotated[str | None, Header(description="1 to 255 printable ASCII characters")] = None,
) -> Once:
    if not idempotency_key or not _KEY.fullmatch(idempotency_key):
        raise Problem("idempotency-key-missing")
    told = f"{request.method} {request.url.path}?{request.url.query}\n".encode() + await request.body()
    digest = hashlib.sha256(told).hexdigest()
    return Once(
        request.app.state.database,
        caller.id,
        idempotency_key,
        digest,
        now,
        hold=lambda session: hold_caller(request, session),
    )


OnceOnly = Annotated[Once, Depends(_once)]
