"""How this client opens SQLite: one private file, durable commits, nothing spilled outside the home."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from shared.errors import MalformedFile

_BUSY_TIMEOUT_SECONDS = 60.0
RESTORE = "restore it from a backup or make a new home"


@contextmanager
def connect(path: Path, *, mend: str = RESTORE) -> Iterator[sqlite3.Connection]:
    """A connection to an existing file; transactions are explicit. Raises MalformedFile if it cannot be used.

    mend: what a damaged or missing file asks for; not every file may be restored from a backup.

    journal_mode TRUNCATE, not WAL: the commit point is an fsync of the truncated journal, and between
    transactions everything is in the one file, so a copy of that file alone is complete (with WAL the newest
    commits live in a second file that a backup forgets). Not DELETE: there the commit point is an unlink, which
    synchronous=FULL does not make durable. temp_store MEMORY keeps sorts out of the system's temporary folder,
    secure_delete overwrites what is erased. cache_size is 64 MB, taken as needed: with the 2 MB of the default an
    import of a million rows spends its time re-reading index pages.
    """
    if not path.is_file():
        raise MalformedFile(f"{path}: the file is missing; {mend}")
    try:
        with closing(
            sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None
            )
        ) as connection:
            for pragma in (
                "journal_mode=TRUNCATE",
                "synchronous=FULL",
                "fullfsync=ON",
                "temp_store=MEMORY",
                "secure_delete=ON",
                "foreign_keys=ON",
                "cache_size=-65536",
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            yield connection
    except sqlite3.OperationalError as error:
        raise MalformedFile(f"{path}: the database cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        raise MalformedFile(f"{path}: the database is damaged: {error}; {mend}") from error


@contextmanager
def writing(path: Path, *, mend: str = RESTORE) -> Iterator[sqlite3.Connection]:
    """One write transaction, the only one of the machine on this file; committed at the end, undone on an error.

    BEGIN IMMEDIATE takes the write lock before anything is read, so that what was read is still true on commit.
    """
    with connect(path, mend=mend) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
