"""One archive of the database and the data folder, and taking it back. Either is whole under its name or not there.

The archive holds private keys and personal data: it is readable by its owner alone, and belongs encrypted elsewhere.
"""

import gzip
import io
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import file_digest
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import inspect
from sqlalchemy.engine import make_url

from platform_api.database import Database
from platform_api.operations.libpq import for_libpq
from platform_api.schema import standing, steps
from platform_api.settings import PREFIX, Settings
from shared.errors import BadSetting, DeploymentError, MalformedFile

FORMAT: Final = 1
_MANIFEST = "manifest.json"
_DATA = "data/"
_DUMP: Final[Mapping[str, str]] = {"sqlite": "platform.db", "postgresql": "platform.pgdump"}
_MAX_MANIFEST = 50_000_000


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a manifest states. files: name in the archive -> SHA-256 in hex."""

    created: str
    dialect: str
    revision: str
    files: dict[str, str]


def back_up(settings: Settings, database: Database, target: Path, now: datetime) -> Contents:
    """Write the archive, of a running service too. Raises BadSetting if it exists, DeploymentError."""
    if target.exists():
        raise BadSetting(f"{target}: it exists already; a backup never replaces another")
    with _beside(target) as work:
        dialect = database.engine.dialect.name
        dump = work / _DUMP[dialect]
        # The database first: files are kept before the rows that name them, so no row lacks its file.
        if database.is_sqlite:
            _copy_sqlite(_sqlite_path(settings), dump)
        else:
            _run("pg_dump", ["--format=custom", "--no-owner", f"--file={dump}"], settings)
        sources = {dump.name: dump, **{_DATA + name: path for name, path in _data_files(settings.data_folder)}}
        contents = Contents(
            created=now.isoformat(),
            dialect=dialect,
            revision=standing(database).current or "",
            files={},
        )
        archive = work / "archive"
        _pack(archive, sources, contents)
        archive.chmod(0o600)
        archive.replace(target)
    _sync(target.parent)
    return contents


def verify(archive: Path) -> Contents:
    """Read a whole archive and compare every digest. Raises MalformedFile."""
    with _opened(archive) as tar:
        contents = _manifest(archive, tar)
        seen = set()
        for member, data in _members(archive, tar, contents):
            if _digest(data) != contents.files[member.name]:
                raise MalformedFile(f"{archive}: {member.name} is damaged; use another backup")
            seen.add(member.name)
    if missing := set(contents.files) - seen:
        raise MalformedFile(f"{archive}: {min(missing)} is missing; use another backup")
    return contents


def restore(settings: Settings, archive: Path, *, force: bool = False) -> Contents:
    """Verify, then put database and data folder in place of what is there. The service must be stopped.

    force: replace what is there. Raises MalformedFile, BadSetting, DeploymentError; then all is as it was before.
    """
    contents = verify(archive)
    known = [step.revision for step in steps()]
    if contents.revision not in known:
        raise BadSetting(f"{archive}: made by a newer version, at migration {contents.revision}; install that one")
    dialect = make_url(settings.database_url).get_backend_name()
    if dialect != contents.dialect:
        raise BadSetting(f"{archive}: a backup of {contents.dialect}, but {PREFIX}DATABASE_URL is of {dialect}")
    _require_empty(settings, dialect, force)
    with _beside(settings.data_folder.absolute()) as work:
        _unpack(archive, work, contents)
        fresh = work / "data"
        fresh.mkdir(exist_ok=True, mode=0o700)
        with _swapped(settings.data_folder, fresh, work / "before"):
            if dialect == "sqlite":
                _place_sqlite(work / _DUMP[dialect], _sqlite_path(settings))
            else:
                _place_postgresql(work / _DUMP[dialect], settings)
    return contents


def _pack(archive: Path, sources: Mapping[str, Path], contents: Contents) -> None:
    with archive.open("xb") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as tar:
            for name, path in sources.items():
                with path.open("rb") as data:
                    contents.files[name] = _digest(data)
                    _add(tar, name, data)
            _add(tar, _MANIFEST, io.BytesIO(json.dumps({"format": FORMAT, **vars(contents)}, indent=1).encode()))
        file.flush()
        os.fsync(file.fileno())


def _add(tar: tarfile.TarFile, name: str, data: BinaryIO) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = data.seek(0, os.SEEK_END), 0o600
    data.seek(0)
    tar.addfile(info, data)


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            yield tar
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise MalformedFile(f"{archive}: it is no whole backup ({type(error).__name__}); use another one") from None


def _manifest(archive: Path, tar: tarfile.TarFile) -> Contents:
    try:
        member = tar.getmember(_MANIFEST)
        file = tar.extractfile(member) if member.isfile() and member.size <= _MAX_MANIFEST else None
        said = json.loads(file.read()) if file else {}
        if said.pop("format", None) != FORMAT:
            raise MalformedFile(f"{archive}: it has no manifest of format {FORMAT}")
        return Contents(**said)
    except (KeyError, TypeError, ValueError):
        raise MalformedFile(f"{archive}: its manifest cannot be read; use another backup") from None


def _members(archive: Path, tar: tarfile.TarFile, contents: Contents) -> Iterator[tuple[tarfile.TarInfo, Any]]:
    for member in tar.getmembers():
        if member.name == _MANIFEST:
            continue
        parts = member.name.split("/")
        if not member.isfile() or member.name not in contents.files or ".." in parts or member.name.startswith("/"):
            raise MalformedFile(f"{archive}: {member.name} does not belong in a backup")
        yield member, tar.extractfile(member)


def _unpack(archive: Path, work: Path, contents: Contents) -> None:
    with _opened(archive) as tar:
        for member, data in _members(archive, tar, contents):
            path = work / member.name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b") as file:
                shutil.copyfileobj(data, file)
                file.flush()
                os.fsync(file.fileno())
                file.seek(0)
                # Verified once more: the archive may have changed since.
                if _digest(file) != contents.files[member.name]:
                    raise MalformedFile(f"{archive}: {member.name} is damaged; use another backup")


def _digest(data: Any) -> str:
    return file_digest(data, "sha256").hexdigest()


def _data_files(folder: Path) -> list[tuple[str, Path]]:
    # Names that begin with a dot are files that were being written.
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return [(path.relative_to(folder).as_posix(), path) for path in paths]


def _sqlite_path(settings: Settings) -> Path:
    name = make_url(settings.database_url).database
    if not name or name == ":memory:":
        raise BadSetting(f"{PREFIX}DATABASE_URL: a database in memory cannot be backed up or restored")
    return Path(name).absolute()


def _copy_sqlite(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        # In one step: between steps every commit of another connection would begin the copy again, for ever in a
        # busy service. In WAL mode a reader keeps no writer waiting.
        live.backup(copy, pages=-1)
    with closing(sqlite3.connect(target)) as copy:
        # One file that needs no others beside it.
        copy.execute("PRAGMA journal_mode=DELETE").fetchone()


def _place_sqlite(fresh: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    near = target.with_name(f".{target.name}.{secrets.token_hex(6)}.restored")
    try:
        shutil.copyfile(fresh, near)
        near.chmod(0o600)
        with near.open("rb") as file:
            os.fsync(file.fileno())
        # What the old file had not taken in yet must not be taken for the new one's.
        for name in (f"{target.name}-wal", f"{target.name}-shm"):
            target.with_name(name).unlink(missing_ok=True)
        near.replace(target)
    finally:
        near.unlink(missing_ok=True)
    _sync(target.parent)


def _place_postgresql(dump: Path, settings: Settings) -> None:
    # Tables of a newer version, which the dump does not know, must go as well: all in one transaction.
    script = dump.with_suffix(".sql")
    _run("pg_restore", ["--no-owner", f"--file={script}", str(dump)], settings)
    emptied = ["--command=DROP SCHEMA public CASCADE", "--command=CREATE SCHEMA public"]
    options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    _run("psql", [*options, *emptied, f"--file={script}"], settings)


def _require_empty(settings: Settings, dialect: str, force: bool) -> None:
    there = [str(settings.data_folder)] if any(_data_files(settings.data_folder)) else []
    if dialect == "sqlite":
        path = _sqlite_path(settings)
        if path.exists() and path.stat().st_size:
            there.append(str(path))
            _require_stopped(path)
    else:
        database = Database(settings.database_url)
        try:
            if inspect(database.engine).get_table_names():
                there.append("the database")
        finally:
            database.close()
    if there and not force:
        raise BadSetting(f"{' and '.join(there)}: not empty; back up what is there, then restore with --force")


def _require_stopped(path: Path) -> None:
    # In WAL mode a connection that is open anywhere keeps this one from leaving the mode.
    with closing(sqlite3.connect(path, timeout=0.1)) as own:
        try:
            own.execute("PRAGMA locking_mode=EXCLUSIVE")
            own.execute("BEGIN EXCLUSIVE")
            own.execute("ROLLBACK")
            mode = own.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
        except sqlite3.OperationalError:
            mode = "busy"
        except sqlite3.DatabaseError:
            return  # a file that is damaged is what a restore is for
    if mode != "delete":
        raise DeploymentError(f"{path}: the service has it open; stop the service first")


@contextmanager
def _swapped(folder: Path, fresh: Path, aside: Path) -> Iterator[None]:
    """`fresh` in the place of `folder`; back again if the block fails."""
    existed = folder.exists()
    if existed:
        folder.replace(aside)
    try:
        fresh.replace(folder)
        yield
    except BaseException:
        with suppress(OSError):
            folder.replace(fresh)
        if existed:
            aside.replace(folder)
        raise
    _sync(folder.absolute().parent)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder on the same file system as the target, gone at the end."""
    parent = target.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    work = parent / f".{target.name}.{secrets.token_hex(6)}.part"
    work.mkdir(mode=0o700)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(tool: str, options: list[str], settings: Settings) -> None:
    if shutil.which(tool) is None:
        raise DeploymentError(f"{tool} is not installed; install PostgreSQL's client programs of the server's version")
    # A folder of the owner's alone, gone with the block.
    with tempfile.TemporaryDirectory() as private:
        connection, environment = for_libpq(make_url(settings.database_url), Path(private))
        # pg_restore writes a script here and connects to nothing.
        told = [f"--dbname={connection}"] if connection and tool != "pg_restore" else []
        environment = {**os.environ, **environment}
        done = subprocess.run([tool, *told, *options], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise DeploymentError(f"{tool} failed, nothing was changed: {said}")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
