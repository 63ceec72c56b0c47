"""Data sets by path: a folder with interactions.csv[.gz] and, when there is text, items.csv[.gz].

interactions: columns `user` and `item`; order from `order`, `position` or `timestamp`, the first that is there, else
the sequence of rows; `split` with the value `test` where a test item is given; `rating` or `liked` for a threshold.
items: column `item` and any of `title`, `categories`, `category`, `school`, `text`. The catalogue is every item of
either file, whether or not a threshold leaves it an interaction: what a platform could recommend is what is ranked.
"""

import csv
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import MalformedFile, NoInteractions
from shared.interactions import Interactions, from_events
from shared.text_features import build_text_features

if TYPE_CHECKING:
    from _csv import Reader as _Reader

_LINE_END = re.compile(r"\r\n|\r|\n")
_ROWS_AT_ONCE = 20_000
ORDER_COLUMNS = ("order", "position", "timestamp")
_TEXT_COLUMNS = ("title", "categories", "category", "school", "text")


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Histories over a catalogue, and one held-out item a user when the folder names it.

    targets: int64 (num_users,), the given test item or -1, kept out of `histories`; None when the folder gives no
    split.
    num_repeats: rows of a user and item met before, merged into the last of them.
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
    num_repeats: int
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
    table.require_filled("user", "item")
    kept = _kept_rows(table, min_rating, liked)
    users, user_ids = _indexed(table.column("user")[kept])
    items_path = _existing(folder, "items")
    item_texts = _item_texts(_Table.read(items_path)) if items_path else {}
    items, item_ids = _indexed(np.concatenate([table.column("item"), np.array(list(item_texts), dtype=object)]))
    items = items[kept]
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
    targets = None
    if is_test.any():
        targets = _given_targets(users[is_test], items[is_test], histories, table.lines[kept[is_test]], path.name)
    texts = [item_texts.get(item, "") for item in item_ids]
    features = (
        build_text_features(texts, num_features) if any(texts) else np.zeros((len(item_ids), 0), dtype=np.float32)
    )
    return Dataset(
        name=folder.resolve().name,
        histories=histories,
        targets=targets,
        user_ids=user_ids,
        item_ids=item_ids,
        features=features,
        order_column=order_column,
        num_repeats=int(len(kept) - np.sum(is_test) - len(histories.items)),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


@dataclass(frozen=True, kw_only=True)
class _Table:
    """A file's columns of text; lines: the line that each row ends on, for what is said about it."""

    path: Path
    header: tuple[str, ...]
    columns: tuple[NDArray[np.object_], ...]
    lines: NDArray[np.int64]

    @classmethod
    def read(cls, path: Path) -> "_Table":
        opened = gzip.open if path.suffix == ".gz" else open
        try:
            with opened(path, "rt", encoding="utf-8-sig", newline="") as text:
                reader = csv.reader(text, strict=True)
                header = tuple(name.strip() for name in next(reader, []))
                blocks = list(_blocks(path.name, reader, len(header)))
        except UnicodeDecodeError:
            raise MalformedFile(
                f"{path.name} line {_first_undecodable(path)}: not UTF-8; save the file in that encoding"
            ) from None
        except csv.Error as error:
            raise MalformedFile(f"{path.name} line {reader.line_num}: not readable as CSV: {error}") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise MalformedFile(f"{path.name}: a damaged gzip file: {error}") from error
        if not blocks:
            raise MalformedFile(f"{path.name}: a header and at least one row are needed")
        lines, *columns = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        return cls(path=path, header=header, columns=tuple(columns), lines=lines)

    def require(self, *names: str) -> None:
        for name in names:
            if name not in self.header:
                raise MalformedFile(f"{self.path.name}: column {name!r} is missing; it has {', '.join(self.header)}")
            if self.header.count(name) > 1:
                raise MalformedFile(f"{self.path.name}: two columns are called {name!r}; rename one")

    def require_filled(self, *names: str) -> None:
        for name in names:
            column = self.column(name)
            if any(not value.strip() for value in set(column)):
                row = next(row for row, value in enumerate(column) if not value.strip())
                raise MalformedFile(f"{self.path.name} line {self.lines[row]}: {name} is blank")

    def column(self, name: str) -> NDArray[np.object_]:
        return self.columns[self.header.index(name)]


def _blocks(name: str, reader: "_Reader", width: int) -> Iterator[tuple[NDArray[Any], ...]]:
    # Columns of some rows at a time: a million small lists at once would cost more memory and time than the file.
    before = reader.line_num
    while rows := list(islice(reader, _ROWS_AT_ONCE)):
        lines = _ends(rows, before, reader.line_num)
        before = reader.line_num
        if set(map(len, rows)) != {width}:
            for line, row in zip(lines, rows, strict=True):
                if len(row) not in (0, width):
                    raise MalformedFile(f"{name} line {line}: {len(row)} fields, the header has {width}")
            filled = np.array([bool(row) for row in rows])  # blank lines are harmless
            lines, rows = lines[filled], [row for row in rows if row]
        if rows:
            yield (lines, *(np.array(column, dtype=object) for column in zip(*rows, strict=True)))


def _ends(rows: list[list[str]], before: int, after: int) -> NDArray[np.int64]:
    if after - before == len(rows):
        return np.arange(before + 1, after + 1, dtype=np.int64)
    # A quoted field may run over lines.
    return before + np.cumsum([1 + sum(len(_LINE_END.findall(field)) for field in row) for row in rows])


def _first_undecodable(path: Path) -> int:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0


def _existing(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / f"{stem}.csv", folder / f"{stem}.csv.gz") if path.is_file()), None)


def _kept_rows(table: _Table, min_rating: float | None, liked: bool) -> NDArray[np.int64]:
    rows = np.arange(len(table.columns[0]), dtype=np.int64)
    if liked:
        table.require("liked")
        rows = rows[[value.strip() == "1" for value in table.column("liked")]]
    if min_rating is not None:
        table.require("rating")
        try:
            table.require_filled("rating")
        except MalformedFile as error:
            raise MalformedFile(f"{error}; use --liked where the file has that column") from None
        rows = rows[_numbers(table, "rating", rows) >= min_rating]
    return rows


def _numbers(table: _Table, name: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    column = table.column(name)[rows]
    try:
        numbers = column.astype(np.float64)
    except ValueError:
        bad = next(place for place, text in enumerate(column) if not _is_number(text))
    else:
        if np.all(np.isfinite(numbers)):
            return numbers
        bad = int(np.flatnonzero(~np.isfinite(numbers))[0])
    raise MalformedFile(
        f"{table.path.name} line {table.lines[rows[bad]]}: {name} must be a finite number, got {column[bad]!r:.60}"
    )


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
    table.require_filled("item")
    present = [table.column(name) for name in _TEXT_COLUMNS if name in table.header]
    return {item: " \n ".join(parts) for item, *parts in zip(table.column("item"), *present, strict=True)}


def _given_targets(
    users: NDArray[np.int64], items: NDArray[np.int64], histories: Interactions, lines: NDArray[np.int64], name: str
) -> NDArray[np.int64]:
    first = np.unique(users, return_index=True)[1]
    if len(first) != len(users):
        line = lines[np.setdiff1d(np.arange(len(users)), first)[0]]
        raise MalformedFile(f"{name} line {line}: a second row of a user has split = test; one item a user is expected")
    # A test item that is also in the history could never be ranked among the unseen ones.
    seen = np.isin(users * histories.num_items + items, histories.rows() * histories.num_items + histories.items)
    if seen.any():
        raise MalformedFile(f"{name} line {lines[seen][0]}: the test item is in the user's training rows too")
    targets = np.full(histories.num_users, -1, dtype=np.int64)
    targets[users] = items
    return targets
