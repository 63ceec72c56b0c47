"""Sweeping in a running service: one task, in one process at a time, that ends with the service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

import anyio
import anyio.to_thread
import structlog
from sqlalchemy import or_
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, update

from platform_api.clock import Clock
from platform_api.database import Database
from platform_api.housekeeping.sweeps import Retention, sweep
from platform_api.housekeeping.tables import SweepTurn
from platform_api.logs import described
from platform_api.orders.checkout import Till


class _End:
    """Set once: wakes the task, and makes a sweep in its thread end after the transaction that it is in."""

    def __init__(self) -> None:
        self.wake = anyio.Event()
        self.asked = False

    def ask(self) -> None:
        self.asked = True
        self.wake.set()


@asynccontextmanager
async def sweeping(till: Till, keep: Retention, clock: Clock, seconds: float) -> AsyncIterator[None]:
    """Sweep every so many seconds until the end of the block, which waits for what is under way. 0: never."""
    if not seconds:
        yield
        return
    end = _End()
    async with anyio.create_task_group() as group:
        group.start_soon(_sweep_until, end, till, keep, clock, seconds)
        try:
            yield
        finally:
            end.ask()


async def _sweep_until(end: _End, till: Till, keep: Retention, clock: Clock, seconds: float) -> None:
    # A thread of its own: those that requests run in are not waited for, nor taken from them.
    thread = anyio.CapacityLimiter(1)
    while True:
        with anyio.move_on_after(seconds):
            await end.wake.wait()
        if end.asked:
            return
        await anyio.to_thread.run_sync(partial(_turn, end, till, keep, clock, seconds), limiter=thread)


def _turn(end: _End, till: Till, keep: Retention, clock: Clock, seconds: float) -> None:
    log = structlog.get_logger("platform")
    try:
        now = clock()
        if not take_turn(till.database, now, timedelta(seconds=seconds)):
            return
        counts = sweep(till, keep, now, lambda: end.asked).counts
    except Exception as error:
        # The database may be away for a moment. The task lives on, and tries again.
        log.warning("no sweep could begin", **described(error))
        return
    if any(counts.values()):
        log.info("swept", **counts)


def take_turn(database: Database, now: datetime, every: timedelta) -> bool:
    """Whether this process is the one to sweep now: of several that ask, one is, and then none before `every` is over.

    A next turn further away than that was set by a clock that was wrong.
    """
    due = or_(col(SweepTurn.next_at) <= now, col(SweepTurn.next_at) > now + every)
    with database.writing() as session:
        taken = session.execute(update(SweepTurn).where(due).values(next_at=now + every))
        if taken.rowcount:  # type: ignore[attr-defined]
            return True
        if session.get(SweepTurn, 1) is not None:
            return False
        try:
            with session.begin_nested():
                session.add(SweepTurn(next_at=now + every))
        except IntegrityError:
            return False
        return True
