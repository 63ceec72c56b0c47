"""Import: every bad row has one clear message, nothing is half imported, and doing it twice changes nothing."""

import gzip
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from client.home import ClientHome
from client.importing import ColumnNames, import_source
from client.store import Imported, Store
from shared.errors import (
    BadInput,
    BadSetting,
    CatalogueMismatch,
    MalformedFile,
    NoInteractions,
    UnknownItem,
    ZhiyinError,
)
from tests.unit.client_homes import CATALOGUE, make_catalogue, make_home

GOOD = "user,item,timestamp\nann,course-1,30\nben,course-2,10\nann,course-0,20\nann,course-1,10\n"


@pytest.fixture
def home(tmp_path: Path) -> ClientHome:
    return make_home(tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def writer(data: str | bytes, name: str = "events.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return writer


def bring(home: ClientHome, source: Path | str, **options: Any) -> Imported:
    return import_source(home.store, home.catalogue, str(source), **options)


def snapshot(store: Store) -> str:
    connection = sqlite3.connect(store.path)
    dump = "\n".join(connection.iterdump())
    connection.close()
    return dump


def test_histories_come_out_oldest_first_and_each_item_once(home: ClientHome, write: Callable[..., Path]) -> None:
    assert bring(home, write(GOOD)) == Imported(added=4, known=0, changed=0)
    rows, users = home.store.interactions(CATALOGUE)
    assert users == ("ann", "ben")
    assert [rows.history(n).tolist() for n in range(2)] == [[0, 1], [2]]
    assert home.store.history("ann", CATALOGUE).tolist() == [0, 1]


def test_the_same_file_twice_is_the_same_store(home: ClientHome, write: Callable[..., Path]) -> None:
    path = write(GOOD)
    bring(home, path)
    before = snapshot(home.store)
    assert bring(home, path) == Imported(added=0, known=4, changed=0)
    assert snapshot(home.store) == before


@pytest.mark.parametrize("order", ["timestamp", "position", "order", None])
def test_overlapping_files_count_each_event_once(
    home: ClientHome, write: Callable[..., Path], order: str | None
) -> None:
    header, rows = "user,item", ["ann,course-0", "ben,course-1", "ann,course-2", "cat,course-3"]
    if order:
        header, rows = f"{header},{order}", [f"{row},{n}" for n, row in enumerate(rows)]
    bring(home, write("\n".join([header, *rows[:3]])))
    second = bring(home, write("\n".join([header, *rows[1:]]), "more.csv"))
    assert second == Imported(added=1, known=2, changed=0)
    histories, users = home.store.interactions(CATALOGUE)
    assert [histories.history(n).tolist() for n in range(3)] == [[0, 2], [1], [3]]
    assert users == ("ann", "ben", "cat")


def test_a_later_import_corrects_a_weight(home: ClientHome, write: Callable[..., Path]) -> None:
    bring(home, write("user,item,timestamp,weight\nann,course-0,1,0.5\n"))
    assert bring(home, write("user,item,timestamp,weight\nann,course-0,1,2\n")) == Imported(added=0, known=1, changed=1)
    assert home.store.interactions(CATALOGUE)[0].weights.tolist() == [2.0]


def test_csv_gzip_parquet_and_sql_give_one_store(tmp_path: Path, write: Callable[..., Path]) -> None:
    rows = [line.split(",") for line in GOOD.splitlines()[1:]]
    columns = {
        "user": [row[0] for row in rows],
        "item": [row[1] for row in rows],
        "timestamp": [int(row[2]) for row in rows],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "events.parquet")
    database = sqlite3.connect(tmp_path / "lms.db")
    database.execute("CREATE TABLE visits (user TEXT, item TEXT, timestamp INTEGER)")
    database.executemany("INSERT INTO visits VALUES (?, ?, ?)", rows)
    database.commit()
    database.close()
    url = f"sqlite:///{tmp_path / 'lms.db'}"
    sources: list[tuple[str, dict[str, Any]]] = [
        (str(write(GOOD)), {}),
        (str(write(gzip.compress(GOOD.encode()), "events.csv.gz")), {}),
        (str(write(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(), "windows.csv")), {}),
        (str(tmp_path / "events.parquet"), {}),
        (url, {"table": "visits"}),
        (url, {"query": "SELECT * FROM visits"}),
    ]
    dumps = []
    for number, (source, options) in enumerate(sources):
        (tmp_path / str(number)).mkdir()
        home = make_home(tmp_path / str(number))
        bring(home, source, **options)
        dumps.append(snapshot(home.store))
    assert len(set(dumps)) == 1


def test_times_may_be_iso_8601_dates_or_seconds(tmp_path: Path, write: Callable[..., Path]) -> None:
    same = ["2026-01-31T18:00:00Z", "2026-01-31 19:00:00+01:00", "2026-01-31T18:00:00", "1769882400", "1769882400.0"]
    positions = set()
    for number, text in enumerate(same):
        (tmp_path / str(number)).mkdir()
        home = make_home(tmp_path / str(number))
        bring(home, write(f"user,item,timestamp\nann,course-0,{text}\n"))
        positions.add(home.store.about("ann")["events"][0]["position"])
    assert positions == {1769882400.0}


def test_columns_may_have_other_names(home: ClientHome, write: Callable[..., Path]) -> None:
    path = write("who;,what,when,how much\nann,course-0,2,3\n")
    names = ColumnNames(user="who;", item="what", position="when", weight="how much")
    bring(home, path, columns=names)
    assert home.store.interactions(CATALOGUE)[0].weights.tolist() == [3.0]


BAD: list[tuple[str, str | bytes, type[ZhiyinError], str]] = [
    ("empty file", b"", MalformedFile, r"events\.csv: the file is empty"),
    ("blank lines only", "\n\n", MalformedFile, r"the file is empty"),
    ("header only", "user,item\n", NoInteractions, r"a header and no rows"),
    ("no user column", "usr,item\nann,course-0\n", MalformedFile, r'no column is called "user".*--user-column'),
    ("no item column", "user,thing\nann,course-0\n", MalformedFile, r'no column is called "item".*--item-column'),
    ("two user columns", "user,user,item\na,b,course-0\n", MalformedFile, r'two columns are called "user"'),
    ("two orders", "user,item,timestamp,order\na,course-0,1,1\n", MalformedFile, r"timestamp and order both"),
    ("unknown item", "user,item\nann,course-99\n", UnknownItem, r"line 2, column \"item\": item 'course-99' is not in"),
    (
        "repeated row",
        "user,item,timestamp\na,course-0,1\nb,course-0,1\na,course-0,1\n",
        MalformedFile,
        r"line 4: repeats line 2",
    ),
    (
        "repeated without order",
        "user,item\na,course-0\na,course-0\n",
        MalformedFile,
        r"line 3: repeats line 2.*no column",
    ),
    (
        "not UTF-8",
        "user,item\nann,course-0\nb\xe9n,course-0\n".encode("latin-1"),
        MalformedFile,
        r"line 3, byte 2: not UTF-8",
    ),
    ("weight NaN", "user,item,weight\nann,course-0,nan\n", MalformedFile, r'line 2, column "weight": a weight must be'),
    ("weight inf", "user,item,weight\nann,course-0,inf\n", MalformedFile, r'line 2, column "weight"'),
    ("weight negative", "user,item,weight\nann,course-0,-1\n", MalformedFile, r'line 2, column "weight"'),
    ("weight zero", "user,item,weight\nann,course-0,0\n", MalformedFile, r'line 2, column "weight"'),
    ("weight beyond float32", "user,item,weight\nann,course-0,1e39\n", MalformedFile, r'line 2, column "weight"'),
    ("weight below float32", "user,item,weight\nann,course-0,1e-60\n", MalformedFile, r'line 2, column "weight"'),
    ("weight text", "user,item,weight\nann,course-0,much\n", MalformedFile, r'line 2, column "weight"'),
    ("weight with underscore", "user,item,weight\nann,course-0,1_0\n", MalformedFile, r'line 2, column "weight"'),
    ("empty user", "user,item\n ,course-0\n", MalformedFile, r'line 2, column "user": user is empty'),
    ("a user with no item", "user,item\nann,\n", MalformedFile, r'line 2, column "item": item is empty.*no item'),
    (
        "bad timestamp",
        "user,item,timestamp\nann,course-0,soon\n",
        MalformedFile,
        r'line 2, column "timestamp".*ISO 8601',
    ),
    ("empty timestamp", "user,item,timestamp\nann,course-0,\n", MalformedFile, r'line 2, column "timestamp"'),
    ("infinite timestamp", "user,item,timestamp\nann,course-0,inf\n", MalformedFile, r'line 2, column "timestamp"'),
    (
        "bad position",
        "user,item,position\nann,course-0,first\n",
        MalformedFile,
        r'line 2, column "position".*finite number',
    ),
    ("short row", "user,item,timestamp\nann,course-0\n", MalformedFile, r"line 2: it has 2 fields, the header has 3"),
    ("long row", "user,item\nann,course-0,1,2\n", MalformedFile, r"line 2: it has 4 fields, the header has 2"),
    ("broken quotes", 'user,item\nann,"course-0" x\n', MalformedFile, r"line 2: not valid CSV"),
    ("open quotes", 'user,item\nann,"course-0\n', MalformedFile, r"not valid CSV"),
    ("NUL byte", b"user,item\nan\x00n,course-99\n", ZhiyinError, r"line 2"),
]


@pytest.mark.parametrize(("content", "kind", "says"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_told_with_its_place_and_nothing_is_kept(
    home: ClientHome, write: Callable[..., Path], content: str | bytes, kind: type[ZhiyinError], says: str
) -> None:
    before = snapshot(home.store)
    with pytest.raises(kind, match=says) as caught:
        bring(home, write(content))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert snapshot(home.store) == before


def test_line_numbers_count_blank_lines_and_quoted_breaks(home: ClientHome, write: Callable[..., Path]) -> None:
    path = write('user,item,note\n\nann,course-0,"two\nlines"\nben,course-99,x\n')
    with pytest.raises(UnknownItem, match="line 5"):
        bring(home, path)


def test_all_rejects_are_told_at_once_up_to_the_limit(home: ClientHome, write: Callable[..., Path]) -> None:
    path = write("user,item,timestamp\na,course-0,1\na,course-0,1\n,course-1,1\nb,nothing,soon\nb,course-2,2\n")
    with pytest.raises(MalformedFile) as caught:
        bring(home, path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "events.csv: 4 rejects, nothing was imported:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "line 3", 'line 4, column "user"', 'line 5, column "item"', 'line 5, column "timestamp"',
    ]  # fmt: skip
    with pytest.raises(MalformedFile, match="2 rejects, and perhaps more"):
        bring(home, path, max_rejects=2)
    assert home.store.counts().num_events == 0


def test_a_file_that_is_bad_at_its_end_leaves_no_first_half(home: ClientHome, write: Callable[..., Path]) -> None:
    rows = "".join(f"user-{n},course-{n % 12},{n}\n" for n in range(30_000))
    bring(home, write("user,item,timestamp\nann,course-0,1\n"))
    before = snapshot(home.store)
    with pytest.raises(UnknownItem, match="line 30002"):
        bring(home, write(f"user,item,timestamp\n{rows}ann,course-99,1\n", "long.csv"))
    assert snapshot(home.store) == before


def test_a_damaged_gzip_is_told(home: ClientHome, write: Callable[..., Path]) -> None:
    whole = gzip.compress(GOOD.encode() * 100)
    for data in (whole[: len(whole) // 2], b"not gzip", whole[:30] + b"\x00\xff" + whole[32:]):
        with pytest.raises(MalformedFile, match=r"events\.csv\.gz"):
            bring(home, write(data, "events.csv.gz"))


def test_a_catalogue_of_another_digest_is_refused(home: ClientHome, write: Callable[..., Path]) -> None:
    with pytest.raises(CatalogueMismatch, match="version 2"):
        import_source(home.store, make_catalogue(version=2), str(write(GOOD)))


def test_sources_with_and_without_times_do_not_mix(home: ClientHome, write: Callable[..., Path]) -> None:
    bring(home, write(GOOD))
    with pytest.raises(BadInput, match="give it a timestamp column"):
        bring(home, write("user,item\nann,course-3\n", "other.csv"))


@pytest.mark.parametrize(
    ("column", "values", "place"),
    [
        ("user", [None, "ann"], 'row 1, column "user"'),
        ("user", [b"ann", b"ben"], 'row 1, column "user"'),
        ("user", [1.5, 2.5], 'row 1, column "user"'),
        ("item", ["course-0", None], 'row 2, column "item"'),
        ("weight", [1.0, float("nan")], 'row 2, column "weight"'),
        ("weight", [True, False], 'row 1, column "weight"'),
        ("timestamp", [1, None], 'row 2, column "timestamp"'),
    ],
)
def test_bad_parquet_values_are_told_by_row_and_column(
    home: ClientHome, tmp_path: Path, column: str, values: list[Any], place: str
) -> None:
    columns: dict[str, list[Any]] = {"user": ["ann", "ben"], "item": ["course-0", "course-1"], column: values}
    parquet.write_table(pyarrow.table(columns), tmp_path / "events.parquet")
    with pytest.raises(MalformedFile, match=place):
        bring(home, tmp_path / "events.parquet")


def test_whole_number_ids_and_typed_times_are_taken_from_parquet(home: ClientHome, tmp_path: Path) -> None:
    times = pyarrow.array(np.array(["2026-01-02", "2026-01-01"], dtype="datetime64[us]"))
    table = pyarrow.table({"user": [7, 7], "item": ["course-0", "course-1"], "timestamp": times})
    parquet.write_table(table, tmp_path / "events.parquet")
    bring(home, tmp_path / "events.parquet")
    assert home.store.history("7", CATALOGUE).tolist() == [1, 0]


def test_a_file_that_is_no_parquet_is_told(home: ClientHome, write: Callable[..., Path]) -> None:
    with pytest.raises(MalformedFile, match=r"events\.parquet"):
        bring(home, write(b"PAR1 nonsense", "events.parquet"))


@pytest.mark.parametrize(
    ("location", "options", "says"),
    [
        ("events.txt", {}, "give a .csv"),
        ("missing.csv", {}, "no such file"),
        ("missing.csv", {"table": "x"}, "go with a database URL"),
        ("sqlite://", {}, "either --table NAME or --query SQL"),
        ("sqlite://", {"table": "a", "query": "b"}, "either --table NAME or --query SQL"),
        ("nodialect://host/db", {"table": "a"}, "URL cannot be used"),
        ("postgresql+nodriver://host/db", {"table": "a"}, "URL cannot be used"),
        ("://", {"table": "a"}, "URL cannot be used"),
    ],
)
def test_a_location_that_cannot_be_used_is_told(
    home: ClientHome, location: str, options: dict[str, str], says: str
) -> None:
    with pytest.raises(BadSetting, match=says):
        bring(home, location, **options)


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz", "events.parquet"])
@pytest.mark.parametrize("refused", ["open", "is_file"])
def test_a_file_without_the_right_to_read_it_is_told(
    home: ClientHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, refused: str
) -> None:
    path = tmp_path / name
    path.touch()
    asked = getattr(Path, refused)

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return asked(self, *arguments, **options)

    monkeypatch.setattr(Path, refused, refuse)
    with pytest.raises(BadSetting, match=f"{path}: it cannot be opened .Permission denied"):
        bring(home, str(path))


@pytest.mark.parametrize(
    "options", [{"table": "nothing"}, {"query": "SELECT broken FROM"}, {"table": "a; DROP TABLE b"}]
)
def test_a_database_that_refuses_is_told(home: ClientHome, options: dict[str, str]) -> None:
    with pytest.raises(MalformedFile, match="the database refused"):
        bring(home, "sqlite://", **options)


def test_a_table_name_cannot_smuggle_a_statement_in(home: ClientHome, tmp_path: Path) -> None:
    path = tmp_path / "lms.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE visits (user TEXT, item TEXT)")
    connection.commit()
    with pytest.raises(MalformedFile):
        bring(home, f"sqlite:///{path}", table='visits"; DROP TABLE visits; --')
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("visits",)]
    connection.close()


def test_the_password_of_a_database_is_never_shown(home: ClientHome) -> None:
    with pytest.raises(BadSetting) as caught:
        bring(home, "postgresql+nodriver://me:hunter2-secret@host/db", table="a")
    assert "hunter2-secret" not in f"{caught.value!r}"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("location", "package"), [("x.parquet", "pyarrow"), ("sqlite://", "sqlalchemy")])
def test_a_missing_extra_is_named(
    home: ClientHome, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, location: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    source = location if "://" in location else str(write(b"", location))
    with pytest.raises(BadSetting, match=rf"{package}, which is not installed; run: pip install 'zhiyin\[tenant\]'"):
        bring(home, source, **({"table": "t"} if "://" in location else {}))
