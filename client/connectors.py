"""Where histories come from: CSV files, Parquet files, or anything SQLAlchemy can reach. Rows come as they stand."""

import csv
import gzip
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from shared.errors import BadSetting, MalformedFile

BATCH_ROWS = 10_000
# A packed file of a few bytes can hold a line that no memory holds.
MAX_LINE_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Source:
    """An opened source.

    name: as messages call it, without secrets. row_word: "line" or "row", what its rows are counted in.
    columns: names in order. rows: (number, values in the order of `columns`), read as they are consumed.
    """

    name: str
    row_word: str
    columns: tuple[str, ...]
    rows: Iterator[tuple[int, Sequence[Any]]]


@contextmanager
def open_source(location: str, *, table: str | None = None, query: str | None = None) -> Generator[Source]:
    """A path to .csv, .csv.gz or .parquet, or a database URL (`postgresql+psycopg://…`) with a table or a query.

    Raises BadSetting for a location or option that cannot be used, MalformedFile for contents that cannot be read;
    both also while rows are consumed.
    """
    if "://" in location:
        with _open_database(location, table, query) as source:
            yield source
        return
    if table or query:
        raise BadSetting("--table and --query go with a database URL, not with a file")
    path = Path(location)
    suffixes = path.name.lower()
    opener = {".csv": _open_csv, ".csv.gz": _open_csv, ".parquet": _open_parquet}
    for suffix, open_file in opener.items():
        if suffixes.endswith(suffix):
            _require_readable(path)
            with open_file(path) as source:
                yield source
            return
    raise BadSetting(f"{path}: give a .csv, .csv.gz or .parquet file, or a database URL with --table or --query")


def _require_readable(path: Path) -> None:
    try:
        if not path.is_file():
            raise BadSetting(f"{path}: no such file")
        path.open("rb").close()
    except OSError as error:
        raise BadSetting(f"{path}: it cannot be opened ({error.strerror}); mend its rights") from error


@contextmanager
def _open_csv(path: Path) -> Iterator[Source]:
    with path.open("rb") as plain, _unpacked(path, plain) as file:
        reader = csv.reader(_decoded(path.name, file), strict=True)
        records = _records(path.name, reader)
        _, header = next(records, (0, None))
        if header is None:
            raise MalformedFile(f"{path.name}: the file is empty; it needs a header line and rows")
        yield Source(name=path.name, row_word="line", columns=tuple(map(str.strip, header)), rows=records)


def _unpacked(path: Path, plain: IO[bytes]) -> IO[bytes]:
    return gzip.GzipFile(fileobj=plain) if path.name.lower().endswith(".gz") else plain  # type: ignore[return-value]


def _decoded(name: str, file: IO[bytes]) -> Iterator[str]:
    """Lines as text. Decoding is by line, so that an error can say where."""
    lines = enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), start=1)
    while True:
        try:
            number, line = next(lines)
        except StopIteration:
            return
        except (EOFError, OSError, zlib.error) as error:
            raise MalformedFile(
                f"{name}: it cannot be unpacked ({error}); the file is damaged, copy it again"
            ) from error
        if len(line) > MAX_LINE_BYTES:
            raise MalformedFile(f"{name}, line {number}: longer than {MAX_LINE_BYTES} bytes; it is no CSV of histories")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise MalformedFile(
                f"{name}, line {number}, byte {error.start + 1}: not UTF-8; save the file as UTF-8"
            ) from None


def _records(name: str, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, numbered by the line on which they begin."""
    while True:
        number = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise MalformedFile(f"{name}, line {number}: not valid CSV ({error}); mend the quotes there") from None
        if record:
            yield number, record


@contextmanager
def _open_parquet(path: Path) -> Iterator[Source]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise _missing_extra("Parquet files", "pyarrow") from None
    try:
        with parquet.ParquetFile(path) as file:
            columns = tuple(file.schema_arrow.names)
            yield Source(name=path.name, row_word="row", columns=columns, rows=_parquet_rows(file))
    except (pyarrow.ArrowException, OSError):
        # The library's message may quote values, so it is dropped.
        raise MalformedFile(f"{path.name}: it cannot be read as Parquet; write the file again") from None


def _parquet_rows(file: Any) -> Iterator[tuple[int, Sequence[Any]]]:
    batches = file.iter_batches(batch_size=BATCH_ROWS)
    rows = (row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True))
    yield from enumerate(rows, start=1)


@contextmanager
def _open_database(url: str, table: str | None, query: str | None) -> Iterator[Source]:
    if (table is None) == (query is None):
        raise BadSetting("a database needs either --table NAME or --query SQL")
    try:
        import sqlalchemy
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError
    except ImportError:
        raise _missing_extra("databases", "sqlalchemy") from None
    try:
        name = sqlalchemy.make_url(url).render_as_string(hide_password=True)
        # hide_parameters: no value of a row or a parameter in any message of the library.
        engine = sqlalchemy.create_engine(url, hide_parameters=True)
    except (SQLAlchemyError, ImportError) as error:
        raise BadSetting(
            f"the database URL cannot be used ({type(error).__name__}); check dialect and driver"
        ) from None
    statement = sqlalchemy.text(query) if query is not None else _whole_table(sqlalchemy, table or "")
    try:
        with engine.connect().execution_options(yield_per=BATCH_ROWS) as connection:
            result = connection.execute(statement)
            yield Source(
                name=name, row_word="row", columns=tuple(result.keys()), rows=enumerate(map(tuple, result), start=1)
            )
    except DBAPIError as error:
        raise MalformedFile(f"{name}: the database refused ({_reason(error)}); check table, query and rights") from None
    except SQLAlchemyError as error:
        raise MalformedFile(f"{name}: it cannot be read ({type(error).__name__}); check table and query") from None
    finally:
        engine.dispose()


def _whole_table(sqlalchemy: Any, table: str) -> Any:
    schema, _, name = table.rpartition(".")
    # A quoted identifier, never pasted text: a table's name cannot smuggle a statement in.
    chosen = sqlalchemy.table(name, schema=schema or None)
    return sqlalchemy.select(sqlalchemy.text("*")).select_from(chosen)


def _reason(error: Any) -> str:
    """What the database said about names and connections; the kind alone where it may quote data."""
    kind = type(error).__name__
    if kind not in ("OperationalError", "ProgrammingError", "InterfaceError"):
        return kind
    said = str(error.orig).strip().splitlines()
    return said[0][:200] if said else kind


def _missing_extra(what: str, package: str) -> BadSetting:
    return BadSetting(f"{what} need {package}, which is not installed; run: pip install 'zhiyin[tenant]'")
