"""Data sets by path: a folder with interactions.csv[.gz] and, when there is text, items.csv[.gz].

interactions: columns `user` and `item`; order from `order`, `position` or `timestamp`, the first that is there, else
the sequence of rows; `split` with the value `test` where a test item is given; `rating` or `liked` for a threshold.
items: column `item` and any of `title`, `categories`, `category`, `school`, `text`.
"""

import csv
import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import MalformedFile, NoInteractions
from shared.interactions import Interactions, from_events
from shared.text_features import build_text_features

_ROWS_AT_ONCE = 20_000
ORDER_COLUMNS = ("order", "position", "timestamp")
_TEXT_COLUMNS = ("title", "categories", "category", "school", "text")


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Histories over a catalogue, and one held-out item a user when the folder names it.

    targets: int64 (num_users,), the given test item or -1, kept out of `histories`; None when the folder gives no
    split.
    features: float32 (num_items, d) from public text, d = 0 for none. sha256: of the interactions file.
    order_column: what put histories in order, "" for the sequence of rows.
    """

    name: str
    histories: Interactions
    targets: NDArray[np.int64] | None
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    features: NDArray[np.float32]
    order_column: str
    sha256: str


def load_folder(
    folder: Path, *, min_rating: float | None = None, liked: bool = False, num_features: int = 64
) -> Dataset:
    """Read a folder. min_rating: keep rows rated at least so much; liked: keep rows whose `liked` is 1.

    Raises MalformedFile naming file and line, or NoInteractions when nothing is left.
    """
    path = _existing(folder, "interactions")
    if path is None:
        raise MalformedFile(f"{folder}: no interactions.csv or interactions.csv.gz there")
    table = _Table.read(path)
    table.require("user", "item")
    kept = _kept_rows(table, min_rating, liked)
    users, user_ids = _indexed(table.column("user")[kept])
    items_path = _existing(folder, "items")
    items_table = _Table.read(items_path) if items_path else None
    item_texts = _item_texts(items_table) if items_table else {}
    items, item_ids = _indexed(table.column("item")[kept])
    order_column = next((name for name in ORDER_COLUMNS if name in table.header), "")
    order = _numbers(table, order_column, kept) if order_column else np.arange(len(kept), dtype=np.float64)
    is_test = np.zeros(len(kept), dtype=bool)
    if "split" in table.header:
        is_test[:] = [value.strip() == "test" for value in table.column("split")[kept]]
    if len(kept) == 0 or is_test.all():
        raise NoInteractions(f"{path.name}: no training row is left; loosen the threshold")
    histories = from_events(
        users=users[~is_test],
        items=items[~is_test],
        order=order[~is_test],
        num_users=len(user_ids),
        num_items=len(item_ids),
    )
    texts = [item_texts.get(item, "") for item in item_ids]
    features = (
        build_text_features(texts, num_features) if any(texts) else np.zeros((len(item_ids), 0), dtype=np.float32)
    )
    return Dataset(
        name=folder.resolve().name,
        histories=histories,
        targets=_given_targets(users[is_test], items[is_test], len(user_ids), path) if is_test.any() else None,
        user_ids=user_ids,
        item_ids=item_ids,
        features=features,
        order_column=order_column,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


@dataclass(frozen=True, kw_only=True)
class _Table:
    path: Path
    header: tuple[str, ...]
    columns: tuple[NDArray[np.object_], ...]

    @classmethod
    def read(cls, path: Path) -> "_Table":
        opened = gzip.open if path.suffix == ".gz" else open
        try:
            with opened(path, "rt", encoding="utf-8-sig", newline="") as lines:
                reader = csv.reader(lines)
                header = tuple(name.strip() for name in next(reader, []))
                blocks = list(_blocks(path.name, reader, len(header)))
        except (UnicodeDecodeError, csv.Error, EOFError, gzip.BadGzipFile) as error:
            raise MalformedFile(f"{path.name}: not a readable UTF-8 CSV file: {error}") from error
        if not blocks:
            raise MalformedFile(f"{path.name}: a header and at least one row are needed")
        return cls(
            path=path, header=header, columns=tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True))
        )

    def require(self, *names: str) -> None:
        for name in names:
            if name not in self.header:
                raise MalformedFile(f"{self.path.name}: column {name!r} is missing; it has {', '.join(self.header)}")

    def column(self, name: str) -> NDArray[np.object_]:
        return self.columns[self.header.index(name)]


def _blocks(name: str, reader: Iterator[list[str]], width: int) -> Iterator[tuple[NDArray[np.object_], ...]]:
    # Columns of some rows at a time: a million small lists at once would cost more memory and time than the file.
    line = 1
    while rows := list(islice(reader, _ROWS_AT_ONCE)):
        while rows and not rows[-1]:  # blank lines at the end are harmless
            rows.pop()
        for place, row in enumerate(rows if set(map(len, rows)) - {width} else (), start=line + 1):
            if len(row) != width:
                raise MalformedFile(f"{name} line {place}: {len(row)} fields, the header has {width}")
        line += len(rows)
        if rows:
            yield tuple(np.array(column, dtype=object) for column in zip(*rows, strict=True))


def _existing(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / f"{stem}.csv", folder / f"{stem}.csv.gz") if path.is_file()), None)


def _kept_rows(table: _Table, min_rating: float | None, liked: bool) -> NDArray[np.int64]:
    rows = np.arange(len(table.columns[0]), dtype=np.int64)
    if liked:
        table.require("liked")
        rows = rows[[value.strip() == "1" for value in table.column("liked")]]
    if min_rating is not None:
        table.require("rating")
        if any(value.strip() == "" for value in table.column("rating")[rows]):
            raise MalformedFile(
                f"{table.path.name}: some ratings are blank; use --liked where the file has that column"
            )
        rows = rows[_numbers(table, "rating", rows) >= min_rating]
    return rows


def _numbers(table: _Table, name: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    column = table.column(name)[rows]
    try:
        return column.astype(np.float64)
    except ValueError:
        line, value = next((row + 2, text) for row, text in zip(rows, column, strict=True) if not _is_number(text))
        raise MalformedFile(f"{table.path.name} line {line}: {name} must be a number, got {value!r}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _indexed(names: NDArray[np.object_]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return np.fromiter(map(places.__getitem__, names), dtype=np.int64, count=len(names)), tuple(places)


def _item_texts(table: _Table) -> dict[str, str]:
    table.require("item")
    present = [table.column(name) for name in _TEXT_COLUMNS if name in table.header]
    return {item: " \n ".join(parts) for item, *parts in zip(table.column("item"), *present, strict=True)}


def _given_targets(users: NDArray[np.int64], items: NDArray[np.int64], num_users: int, path: Path) -> NDArray[np.int64]:
    targets = np.full(num_users, -1, dtype=np.int64)
    if len(np.unique(users)) != len(users):
        raise MalformedFile(f"{path.name}: more than one row of a user has split = test; one item a user is expected")
    targets[users] = items
    return targets
