"""The sandbox's books: payments, refunds, keys and messages to deliver, in SQLite (a file or memory)."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS intents (
  number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, order_id TEXT NOT NULL, amount_minor INTEGER NOT NULL,
  currency TEXT NOT NULL, status TEXT NOT NULL, updated_at REAL NOT NULL, settles_at REAL);
CREATE TABLE IF NOT EXISTS refunds (
  number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, refund_id TEXT NOT NULL, intent_id TEXT NOT NULL,
  amount_minor INTEGER NOT NULL, currency TEXT NOT NULL, status TEXT NOT NULL, updated_at REAL NOT NULL,
  settles_at REAL);
CREATE INDEX IF NOT EXISTS refunds_by_intent ON refunds (intent_id);
CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, request TEXT NOT NULL, subject TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL, body TEXT NOT NULL, due_at REAL NOT NULL, tries INTEGER NOT NULL);
"""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One delivery that is due. tries: how often it was sent before."""

    number: int
    id: str
    body: str
    tries: int


class Books:
    """One connection behind one lock. Everything in one `writing` block is kept, or nothing."""

    def __init__(self, path: str) -> None:
        self._lock = RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def one(self, query: str, *values: Any) -> dict[str, Any] | None:
        with self._lock:
            row = self._db.execute(query, values).fetchone()
        return None if row is None else dict(row)

    def all(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with self._lock:
            return [dict(row) for row in self._db.execute(query, values).fetchall()]

    def do(self, statement: str, *values: Any) -> None:
        with self._lock:
            self._db.execute(statement, values)

    def queue(self, message_id: str, body: str, due_at: float) -> None:
        self.do("INSERT INTO messages (id, body, due_at, tries) VALUES (?, ?, ?, 0)", message_id, body, due_at)

    def due(self, now: float) -> list[Message]:
        rows = self.all("SELECT number, id, body, tries FROM messages WHERE due_at <= ? ORDER BY due_at, number", now)
        return [Message(**row) for row in rows]

    def delivered(self, message: Message) -> None:
        self.do("DELETE FROM messages WHERE number = ?", message.number)

    def put_off(self, message: Message, due_at: float) -> None:
        self.do("UPDATE messages SET tries = tries + 1, due_at = ? WHERE number = ?", due_at, message.number)
