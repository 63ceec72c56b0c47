"""The local store: who used what, in which order, in one private SQLite file that nothing here ever sends."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.database import connect, writing
from client.durable_files import create_empty, require_private
from client.rejects import Rejects
from shared.catalogue import CatalogueSnapshot
from shared.errors import BadInput, MalformedFile, NoInteractions
from shared.interactions import Interactions, from_events

VERSION = "zhiyin-store-1"
OrderKind = Literal["timestamp", "position", "row"]

_LAST_ID = 2**63 - 1

# Items are kept by their public id, so that a new catalogue snapshot does not renumber the store.
_TABLES = (
    "CREATE TABLE meta (version TEXT NOT NULL, catalogue_digest TEXT NOT NULL, order_kind TEXT)",
    "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE events (
    user INTEGER NOT NULL REFERENCES users, item INTEGER NOT NULL REFERENCES items,
    position REAL NOT NULL, weight REAL NOT NULL, PRIMARY KEY (user, item, position)) WITHOUT ROWID""",
)


class Event(NamedTuple):
    """One accepted row. row: its number in the source, for messages. position: time or place; the order of events.

    A tuple, because millions of them are made and bound to a statement.
    """

    row: int
    user: str
    item: str
    position: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class StoreCounts:
    num_users: int
    num_items: int
    num_events: int


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What one import changed. known: events the store had already, with the same weight or (changed) another one."""

    added: int
    known: int
    changed: int


class Store:
    """Open with `Store.open`; each call uses a connection of its own, so threads and processes may share the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, catalogue: CatalogueSnapshot) -> "Store":
        """An empty store for one catalogue snapshot; FileExistsError if the file is there."""
        create_empty(path)
        with writing(path) as connection:
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES (?, ?, NULL)", (VERSION, catalogue.digest))
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Raises BadSetting (missing, readable by others) or MalformedFile (not a store)."""
        require_private(path)
        with connect(path) as connection:
            _meta(connection, path)
        return cls(path)

    @property
    def catalogue_digest(self) -> str:
        """Digest of the snapshot that the items were checked against."""
        with connect(self.path) as connection:
            return _meta(connection, self.path)[0]

    def counts(self) -> StoreCounts:
        with connect(self.path) as connection:
            users, items, events = connection.execute(
                "SELECT COUNT(DISTINCT user), COUNT(DISTINCT item), COUNT(*) FROM events"
            ).fetchone()
        return StoreCounts(num_users=users, num_items=items, num_events=events)

    def add(
        self, events: Iterable[Event], *, catalogue: CatalogueSnapshot, order: OrderKind, rejects: Rejects
    ) -> Imported:
        """Add all of `events`, or nothing. Adding the same events again changes nothing.

        One event is one (user, item, position); without an order column (`order="row"`) one (user, item), placed
        after everything imported before. A later import corrects the weight. `events` may add to `rejects` while it
        is consumed; rows that repeat each other are added here, and any reject is raised before a row is kept.
        Raises CatalogueMismatch, BadInput for another kind of order than the store's, NoInteractions for no event.
        """
        with writing(self.path) as connection:
            self._accepts(connection, catalogue, order)
            _stage(connection, events)
            _reject_repeats(connection, order, rejects)
            rejects.raise_if_any()
            imported = _merge(connection, order)
            if not imported.added + imported.known:
                raise NoInteractions(f"{rejects.source}: it has a header and no rows; nothing was imported")
            connection.execute("UPDATE meta SET order_kind = ?", (order,))
        return imported

    def interactions(self, catalogue: CatalogueSnapshot) -> tuple[Interactions, tuple[str, ...]]:
        """Every history over `catalogue`, and the users in row order (the order of their first import).

        Raises CatalogueMismatch for another snapshot, NoInteractions for an empty store.
        """
        with connect(self.path) as connection:
            rows, users = self._read(connection, catalogue, 0, _LAST_ID)
        if rows is None:
            raise NoInteractions(f"{self.path}: it holds no interactions; run `zhiyin client import` first")
        return rows, users

    def history(self, user: str, catalogue: CatalogueSnapshot) -> NDArray[np.int32]:
        """One user's items, oldest first. NoInteractions if there are none; the message does not repeat the user."""
        rows = None
        with connect(self.path) as connection:
            for (number,) in connection.execute("SELECT id FROM users WHERE name = ?", (user,)).fetchall():
                rows, _ = self._read(connection, catalogue, number, number)
        if rows is None:
            raise NoInteractions(self._no_history())
        return rows.history(0)

    def about(self, user: str) -> dict[str, Any]:
        """Everything held about one user, as a JSON object. NoInteractions if there is nothing."""
        with connect(self.path) as connection:
            kind = _meta(connection, self.path)[1]
            events = connection.execute(
                "SELECT items.name, position, weight FROM events JOIN users ON users.id = user "
                "JOIN items ON items.id = item WHERE users.name = ? ORDER BY position, item",
                (user,),
            ).fetchall()
        if not events:
            raise NoInteractions(self._no_history())
        return {
            "user": user,
            "order": kind,
            "events": [{"item": item, "position": position, "weight": weight} for item, position, weight in events],
        }

    def erase(self, user: str) -> int:
        """Remove one user, overwriting the bytes on the way; returns how many events went. NoInteractions if none."""
        with writing(self.path) as connection:
            found = connection.execute("SELECT id FROM users WHERE name = ?", (user,)).fetchall()
            if not found:
                raise NoInteractions(self._no_history())
            events = connection.execute("DELETE FROM events WHERE user = ?", found[0]).rowcount
            connection.execute("DELETE FROM users WHERE id = ?", found[0])
        return events

    def _no_history(self) -> str:
        return f"{self.path}: this user has no history here; check the id, or import it first"

    def adopt(self, catalogue: CatalogueSnapshot) -> int:
        """Move the store to another snapshot; returns how many events are of items that it no longer lists.

        Those stay stored and out of every history, until a snapshot lists their item again.
        """
        with writing(self.path) as connection:
            _meta(connection, self.path)
            connection.execute("UPDATE meta SET catalogue_digest = ?", (catalogue.digest,))
            counted = "SELECT items.name, COUNT(*) FROM events JOIN items ON items.id = item GROUP BY item"
            return sum(count for name, count in connection.execute(counted) if name not in catalogue.index)

    def _accepts(self, connection: Connection, catalogue: CatalogueSnapshot, order: OrderKind) -> None:
        digest, present = _meta(connection, self.path)
        catalogue.require(digest, str(self.path))
        if present is not None and present != order:
            mend = "start a new home" if present == "row" else f"give it a {present} column"
            raise BadInput(
                f"the store's events are ordered by {present}, those of this source by {order}; they cannot be "
                f"put in one order: {mend}"
            )

    def _read(
        self, connection: Connection, catalogue: CatalogueSnapshot, first: int, last: int
    ) -> tuple[Interactions | None, tuple[str, ...]]:
        """Histories of the users numbered first..last; None if they have no event of a listed item."""
        catalogue.require(_meta(connection, self.path)[0], str(self.path))
        index, between = catalogue.index, (first, last)
        users = connection.execute(
            "SELECT id, name FROM users WHERE id BETWEEN ? AND ? ORDER BY id", between
        ).fetchall()
        # In the order of the table, which costs no sorting: ties in position are broken by the item's number, so that
        # equal stores give equal histories.
        rows = connection.execute(
            "SELECT user, item, position, weight FROM events WHERE user BETWEEN ? AND ? ORDER BY user, item, position",
            between,
        )
        events = np.fromiter(chain.from_iterable(rows), dtype=np.float64).reshape(-1, 4)
        items = connection.execute("SELECT id, name FROM items").fetchall()
        listed = np.full(max((number for number, _ in items), default=0) + 1, -1, dtype=np.int64)
        for number, name in items:
            listed[number] = index.get(name, -1)
        columns = listed[events[:, 1].astype(np.int64)]
        events, columns = events[columns >= 0], columns[columns >= 0]
        if not len(events):
            return None, ()
        numbers = np.array([number for number, _ in users], dtype=np.int64)
        interactions = from_events(
            users=np.searchsorted(numbers, events[:, 0].astype(np.int64)),
            items=columns,
            order=events[:, 2],
            num_users=len(users),
            num_items=catalogue.num_items,
            weights=events[:, 3].astype(np.float32),
        )
        return interactions, tuple(name for _, name in users)


def _meta(connection: Connection, path: Path) -> tuple[str, OrderKind | None]:
    rows = connection.execute("SELECT version, catalogue_digest, order_kind FROM meta").fetchall()
    if len(rows) != 1 or rows[0][0] != VERSION:
        raise MalformedFile(f"{path}: this is not a store of version {VERSION}")
    return rows[0][1], rows[0][2]


def _stage(connection: Connection, events: Iterable[Event]) -> None:
    # A table of the store itself, not a temporary one: histories are never written outside the home.
    connection.execute("CREATE TABLE staged (row INTEGER, user TEXT, item TEXT, position REAL, weight REAL)")
    connection.executemany("INSERT INTO staged VALUES (?, ?, ?, ?, ?)", events)


def _reject_repeats(connection: Connection, order: OrderKind, rejects: Rejects) -> None:
    said = "user and item, and no column tells when" if order == "row" else f"user, item and {order}"
    repeats = connection.execute(
        "SELECT row, first FROM (SELECT row, MIN(row) OVER "
        "(PARTITION BY user, item, CASE WHEN :unordered THEN 0 ELSE position END) AS first FROM staged) "
        "WHERE row > first ORDER BY row",
        {"unordered": order == "row"},
    )
    for row, first in repeats:
        rejects.add(row, f"repeats {rejects.row_word} {first} (same {said}); keep one of them")


def _merge(connection: Connection, order: OrderKind) -> Imported:
    """Move `staged` into the store's tables."""
    unordered = {"unordered": order == "row"}
    connection.execute("INSERT OR IGNORE INTO users (name) SELECT user FROM staged GROUP BY user ORDER BY MIN(row)")
    connection.execute("INSERT OR IGNORE INTO items (name) SELECT item FROM staged GROUP BY item ORDER BY MIN(row)")
    connection.execute(
        "CREATE TABLE resolved AS SELECT users.id AS user, items.id AS item, position, weight "
        "FROM staged JOIN users ON users.name = staged.user JOIN items ON items.name = staged.item"
    )
    ((total,),) = connection.execute("SELECT COUNT(*) FROM resolved").fetchall()
    changed = connection.execute(
        "UPDATE events AS e SET weight = r.weight FROM resolved AS r WHERE e.weight <> r.weight "
        "AND e.user = r.user AND e.item = r.item AND (:unordered OR e.position = r.position)",
        unordered,
    ).rowcount
    # Without an order column new events follow everything that is there already.
    ((last,),) = connection.execute("SELECT COALESCE(MAX(position), 0) FROM events").fetchall()
    added = connection.execute(
        "INSERT INTO events SELECT user, item, position + :after, weight FROM resolved AS r "
        "WHERE NOT EXISTS (SELECT 1 FROM events AS e "
        "WHERE e.user = r.user AND e.item = r.item AND (:unordered OR e.position = r.position)) "
        "ORDER BY user, item, position",
        {**unordered, "after": last if order == "row" else 0},
    ).rowcount
    connection.execute("DROP TABLE staged")
    connection.execute("DROP TABLE resolved")
    return Imported(added=added, known=total - added, changed=changed)
