"""From a source to the store: find the columns, check every row, import all of it or nothing."""

import datetime
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from client.connectors import Source, open_source
from client.rejects import Rejects
from client.store import Event, Imported, OrderKind, Store
from shared.catalogue import CatalogueSnapshot
from shared.errors import MalformedFile

MAX_REJECTS = 20
_ORDER_COLUMNS: dict[str, OrderKind] = {"timestamp": "timestamp", "order": "position", "position": "position"}
_LARGEST_WEIGHT = float(np.finfo(np.float32).max)
_SMALLEST_WEIGHT = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class ColumnNames:
    """What the source calls its columns.

    timestamp: Unix seconds or ISO 8601 (UTC unless it says otherwise). position: any rising number. Unless one of
    them is named, a column called timestamp, order or position is used if there is one. weight: likewise optional.
    """

    user: str = "user"
    item: str = "item"
    timestamp: str | None = None
    position: str | None = None
    weight: str | None = None


@dataclass(frozen=True)
class _Layout:
    """Where the columns stand in a row; order_kind says what the order column means."""

    width: int
    user: int
    item: int
    order: int | None
    weight: int | None
    order_kind: OrderKind
    names: tuple[str, ...]


def import_source(
    store: Store,
    catalogue: CatalogueSnapshot,
    location: str,
    *,
    table: str | None = None,
    query: str | None = None,
    columns: ColumnNames | None = None,
    max_rejects: int = MAX_REJECTS,
) -> Imported:
    """Import a file or database; see `client.connectors.open_source` for locations.

    One transaction: any reject, or an error in reading, leaves the store as it was. Importing the same source again
    changes nothing. Raises MalformedFile or UnknownItem listing up to `max_rejects` rows, NoInteractions, BadInput,
    CatalogueMismatch, BadSetting.
    """
    with open_source(location, table=table, query=query) as source:
        layout = _layout(source, columns or ColumnNames())
        rejects = Rejects(source.name, source.row_word, max_rejects)
        events = _events(source, layout, catalogue, rejects)
        return store.add(events, catalogue=catalogue, order=layout.order_kind, rejects=rejects)


def _layout(source: Source, names: ColumnNames) -> _Layout:
    for name in dict.fromkeys(source.columns):
        if source.columns.count(name) > 1 and name in (names.user, names.item, *_ORDER_COLUMNS, "weight"):
            raise MalformedFile(f'{source.name}: two columns are called "{name}"; rename one')
    order, kind = _order_column(source, names)
    weight = names.weight or ("weight" if "weight" in source.columns else None)
    return _Layout(
        width=len(source.columns),
        user=_find(source, names.user, "--user-column"),
        item=_find(source, names.item, "--item-column"),
        order=None if order is None else _find(source, order, f"--{kind}-column"),
        weight=None if weight is None else _find(source, weight, "--weight-column"),
        order_kind=kind,
        names=source.columns,
    )


def _order_column(source: Source, names: ColumnNames) -> tuple[str | None, OrderKind]:
    if names.timestamp and names.position:
        raise MalformedFile(f"{source.name}: give --timestamp-column or --position-column, not both")
    if names.timestamp:
        return names.timestamp, "timestamp"
    if names.position:
        return names.position, "position"
    present = [name for name in _ORDER_COLUMNS if name in source.columns]
    if len(present) > 1:
        raise MalformedFile(
            f"{source.name}: columns {' and '.join(present)} both give an order; "
            "choose with --timestamp-column or --position-column"
        )
    return (present[0], _ORDER_COLUMNS[present[0]]) if present else (None, "row")


def _find(source: Source, name: str, option: str) -> int:
    # The columns that are there are not listed: a file without a header would show its first user.
    if name not in source.columns:
        raise MalformedFile(
            f'{source.name}: no column is called "{name}"; name the one to use with {option}, or add a header'
        )
    return source.columns.index(name)


def _events(source: Source, layout: _Layout, catalogue: CatalogueSnapshot, rejects: Rejects) -> Iterator[Event]:
    for row, values in source.rows:
        if len(values) != layout.width:
            rejects.add(row, f"it has {len(values)} fields, the header has {layout.width}")
            continue
        user = _identifier(values, layout.user, layout, row, rejects)
        item = _item(values, layout, row, catalogue, rejects)
        position = float(row) if layout.order is None else _position(values, layout.order, layout, row, rejects)
        weight = 1.0 if layout.weight is None else _weight(values, layout.weight, layout, row, rejects)
        if user is not None and item is not None and position is not None and weight is not None:
            yield Event(row=row, user=user, item=item, position=position, weight=weight)


def _identifier(values: Sequence[Any], column: int, layout: _Layout, row: int, rejects: Rejects) -> str | None:
    value, name = values[column], layout.names[column]
    if value is None or (isinstance(value, str) and not value.strip()):
        what = "item is empty, so the user has no item here" if column == layout.item else "user is empty"
        rejects.add(row, f"{what}; fill it in or remove the row", column=name)
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        rejects.add(row, "an id must be text or a whole number", column=name)
        return None
    return str(value).strip()


def _item(
    values: Sequence[Any], layout: _Layout, row: int, catalogue: CatalogueSnapshot, rejects: Rejects
) -> str | None:
    item = _identifier(values, layout.item, layout, row, rejects)
    if item is not None and item not in catalogue.index:
        what = f"item {item[:80]!r} is not in catalogue version {catalogue.version}"
        mend = "remove the row or update the catalogue"
        rejects.add(row, f"{what}; {mend}", column=layout.names[layout.item], unknown_item=True)
        return None
    return item


def _position(values: Sequence[Any], column: int, layout: _Layout, row: int, rejects: Rejects) -> float | None:
    timestamp = layout.order_kind == "timestamp"
    number = _moment(values[column]) if timestamp else _number(values[column])
    if number is None:
        wanted = "Unix seconds or ISO 8601, such as 2026-01-31T18:00:00Z" if timestamp else "a finite number"
        rejects.add(row, f"not a {layout.order_kind}; give {wanted}", column=layout.names[column])
    return number


def _weight(values: Sequence[Any], column: int, layout: _Layout, row: int, rejects: Rejects) -> float | None:
    number = _number(values[column])
    if number is None or not _SMALLEST_WEIGHT <= number <= _LARGEST_WEIGHT:
        rejects.add(row, "a weight must be a finite number above zero", column=layout.names[column])
        return None
    return number


def _moment(value: Any) -> float | None:
    """Unix seconds of a number, a date, a date and time, or ISO 8601 text; None if it is none of them."""
    number = _number(value)
    if number is not None:
        return number
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    elif isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime.datetime):
        return None
    aware = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
    return (aware - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds()


def _number(value: Any) -> float | None:
    """A finite float, or None. Text is read as Python does, without its underscores."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal) or "_" in str(value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
