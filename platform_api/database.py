"""One engine, two kinds of transaction. SQLite (WAL) and PostgreSQL behave alike from here on.

Rows are locked in one order everywhere, so that no two transactions wait for each other (SQLite has one writer and
needs none): the person who calls or is changed, the key of an idempotent request, orders by id, products by id,
categories, the shelves (`note_shelf_change`), slots and what holds them, documents of the search, claims. A row of
models, snapshots, reviews or log-ins is followed by none of these. Only erasing a person locks several orders or
products; only one person is locked at a time.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import anyio
from fastapi import Depends, Request
from sqlalchemy import Connection, Engine, create_engine, event
from sqlmodel import Session

ALIVE: dict[str, Any] = {"key_share": True}
"""For `with_for_update`, of rows that are not to be deleted: nobody else changes the row, but others may point at it.

PostgreSQL locks what a row points at when the row is written, and again when it is written a second time in one
transaction: an order that is closed asks for its buyer after it was locked, out of the order above. Nobody waits for
that where people, products and categories are locked this way. Erasing a person does change a key of theirs, the
address, but as its last step, when it holds every row that points at them.
"""
_WRITES = "zhiyin_writes"
# Hashing takes 64 MiB and a processor each; these write in short transactions of their own.
_HASHINGS = 4
# All together are fewer than the 40 threads that routes run in, and each is fewer than a pool's 20 connections.
_TURNS = 16
_MIGRATION_LOCK = 7_349_206_115  # any number that nothing else here locks


class BrokenReference(Exception):
    """A change of tables would have left a foreign key without what it points at; nothing of it was kept."""


class Database:
    """Sessions on one URL. Plain synchronous ones: routes run in worker threads, and SQLite has one writer anyway."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._writing = self.engine.execution_options(**{_WRITES: True})

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads; nothing of it is kept."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is committed at the end of the block, or not at all.

        On SQLite it takes the write lock at its beginning: a reader that turns writer can fail half-way.
        """
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """A transaction that may change tables, alone in doing so; committed at the end of the block, or not at all.

        SQLite changes a table by making it anew, so its foreign keys are checked at the end instead of meanwhile.
        """
        with self._writing.connect() as connection:
            if not self.is_sqlite:
                with connection.begin():
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
                    yield connection
                return
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    yield connection
                    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
                    if broken is not None:
                        raise BrokenReference(f"a row of {broken[0]} would point at nothing in {broken[2]}")
            finally:
                driver.execute("PRAGMA foreign_keys=ON")

    def close(self) -> None:
        self.engine.dispose()


def _engine(url: str) -> Engine:
    # Errors of the database reach the log: the values of a statement must not.
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=10, hide_parameters=True)
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


class Turns:
    """How many requests are in the database at a time, in one process; the others wait without a thread.

    A request keeps its connection, on SQLite perhaps with the lock for writing, until its answer is put together, which
    takes a thread again. Were all threads taken by requests that wait for that connection or lock, each would wait for
    the other until the database gives up. errands: requests that ask a provider, which may take its time.
    """

    def __init__(self) -> None:
        self.sessions = anyio.Semaphore(_TURNS)
        self.errands = anyio.Semaphore(_TURNS)
        self.hashings = anyio.Semaphore(_HASHINGS)


async def _turn(request: Request) -> AsyncIterator[None]:
    async with request.app.state.turns.sessions:
        yield


async def _errand(request: Request) -> AsyncIterator[None]:
    async with request.app.state.turns.errands:
        yield


async def _hashing(request: Request) -> AsyncIterator[None]:
    async with request.app.state.turns.hashings:
        yield


# Scope "function": the transaction is committed before the answer leaves, so that what was promised is kept.
Turn = Annotated[None, Depends(_turn, scope="function")]
Errand = Annotated[None, Depends(_errand, scope="function")]
Hashing = Annotated[None, Depends(_hashing, scope="function")]


def _read_session(request: Request, turn: Turn) -> Iterator[Session]:
    with request.app.state.database.reading() as session:
        yield session


def _write_session(request: Request, turn: Turn) -> Iterator[Session]:
    with request.app.state.database.writing() as session:
        hold_caller(request, session)
        yield session


def hold_caller(request: Request, session: Session) -> None:
    """Keep the person who calls, if one does, from being erased until this transaction has ended, as its first lock.

    Raises Problem (401): what a person who was erased meanwhile has sent leaves nothing behind.
    """
    caller = getattr(request.state, "caller", None)
    if caller is not None:
        # Accounts know people, and build on this module.
        request.app.state.hold_caller(session, caller)


ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
WriteSession = Annotated[Session, Depends(_write_session, scope="function")]
