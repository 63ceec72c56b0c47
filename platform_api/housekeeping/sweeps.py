"""What is kept for a time only, and the sweeps that end it: bounded transactions, which pass over what is in use.

Saved answers and messages' receipts go once nobody may send the request or message again, log-ins once nothing of them
can be used any more. Orders whose time to be paid is over are cancelled at the provider first, so that a payment that
came before counts, and none can come afterwards; then slots and claims are free.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import exists, or_, select, tuple_
from sqlmodel import Session, col, delete

from platform_api.accounts.tables import LoginFamily, RefreshToken
from platform_api.database import Database
from platform_api.idempotency import IdempotentRequest
from platform_api.logs import described
from platform_api.orders.checkout import Till
from platform_api.payments.reconcile import overdue
from platform_api.payments.tables import WebhookReceipt
from platform_api.settings import Settings

BATCH = 500
"""Most rows of a table that one transaction removes."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long things are kept. answers: from the request's start; log_ins: from their end; receipts: from arrival."""

    answers: timedelta
    log_ins: timedelta
    receipts: timedelta


@dataclass(frozen=True, kw_only=True)
class Swept:
    """How many of what were removed or closed, and the names of sweeps that failed."""

    counts: dict[str, int]
    failed: tuple[str, ...]


def retention_of(settings: Settings) -> Retention:
    """What the operator has set."""
    return Retention(
        answers=timedelta(days=settings.idempotency_days),
        log_ins=timedelta(days=settings.login_history_days),
        receipts=timedelta(days=settings.webhook_receipt_days),
    )


def sweep(till: Till, keep: Retention, now: datetime, stopping: Callable[[], bool] = lambda: False) -> Swept:
    """Every sweep, one after the other; one that fails is logged, and keeps no other one from its work.

    stopping: asked between two transactions.
    """
    counts = {"orders_for_a_person": 0}
    failed: list[str] = []

    def orders() -> None:
        for finding in overdue(till, now, stopping):
            counts["orders" if finding.action == "corrected" else "orders_for_a_person"] += 1

    def rows(name: str, step: Callable[[Session, datetime], int], before: datetime) -> Callable[[], None]:
        return lambda: _in_batches(till.database, counts, name, lambda session: step(session, before), stopping)

    sweeps: dict[str, Callable[[], None]] = {
        "orders": orders,
        "answers": rows("answers", _remove_answers, now - keep.answers),
        "log_ins": rows("log_ins", _remove_log_ins, now - keep.log_ins),
        "receipts": rows("receipts", _remove_receipts, now - keep.receipts),
    }
    for name, run in sweeps.items():
        counts[name] = 0
        if stopping():
            continue
        try:
            run()
        except Exception as error:
            failed.append(name)
            structlog.get_logger("platform").warning("a sweep failed", what=name, **described(error))
    return Swept(counts=counts, failed=tuple(failed))


def _in_batches(
    database: Database, counts: dict[str, int], name: str, step: Callable[[Session], int], stopping: Callable[[], bool]
) -> None:
    while not stopping():
        with database.writing() as session:
            done = step(session)
        counts[name] += done
        if done == 0:
            return


def _remove_answers(session: Session, before: datetime) -> int:
    place = col(IdempotentRequest.caller_id), col(IdempotentRequest.key)
    old = select(*place).where(col(IdempotentRequest.started_at) < before).limit(BATCH)
    found = [tuple(row) for row in session.execute(old.with_for_update(skip_locked=True))]
    session.execute(delete(IdempotentRequest).where(tuple_(*place).in_(found)))
    return len(found)


def _remove_receipts(session: Session, before: datetime) -> int:
    old = select(col(WebhookReceipt.id)).where(col(WebhookReceipt.received_at) < before).limit(BATCH)
    found = list(session.scalars(old.with_for_update(skip_locked=True)))
    session.execute(delete(WebhookReceipt).where(col(WebhookReceipt.id).in_(found)))
    return len(found)


def _remove_log_ins(session: Session, before: datetime) -> int:
    """Refresh tokens that expired before, log-ins that ended before, and log-ins that have no token left."""
    ended = select(col(LoginFamily.id)).where(col(LoginFamily.ended_at) < before).limit(BATCH)
    expired = select(col(RefreshToken.family_id)).where(col(RefreshToken.expires_at) < before).limit(BATCH)
    sought = {*session.scalars(ended), *session.scalars(expired)}
    # Whoever holds one of them now, to refresh or to erase, goes first: this takes only what nobody waits for.
    held = select(col(LoginFamily.id)).where(col(LoginFamily.id).in_(sought)).with_for_update(skip_locked=True)
    families = list(session.scalars(held))
    of_them = select(col(RefreshToken.digest)).join(LoginFamily, col(LoginFamily.id) == col(RefreshToken.family_id))
    over = or_(col(RefreshToken.expires_at) < before, col(LoginFamily.ended_at) < before)
    wanted = of_them.where(col(LoginFamily.id).in_(families), over).limit(BATCH)
    tokens = list(session.scalars(wanted.with_for_update(skip_locked=True, of=RefreshToken)))
    _removed(session, delete(RefreshToken).where(col(RefreshToken.digest).in_(tokens)))
    left = exists().where(col(RefreshToken.family_id) == col(LoginFamily.id))
    return len(tokens) + _removed(session, delete(LoginFamily).where(col(LoginFamily.id).in_(families), ~left))


def _removed(session: Session, statement: Any) -> int:
    return int(session.execute(statement).rowcount)  # type: ignore[attr-defined]
