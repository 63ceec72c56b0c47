"""What could be wrong with an installation, looked for one by one, each with the mend. Nothing is changed."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry
from sqlalchemy import func
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlmodel import Session, col, select

from platform_api.consents.queries import current_policy
from platform_api.database import Database
from platform_api.models import queries as models
from platform_api.models.files import ArtifactStore
from platform_api.models.live import LiveModels
from platform_api.models.tables import ModelVersion
from platform_api.operations.erasures import difference
from platform_api.orders.tables import Order
from platform_api.payments import ledger
from platform_api.schema import MIGRATE, standing
from platform_api.settings import PREFIX, Settings
from platform_api.snapshots.files import snapshot_file
from platform_api.snapshots.service import PublishedSnapshots
from platform_api.snapshots.tables import Snapshot
from shared.canonical import sha256_hex
from shared.errors import ZhiyinError

Level = Literal["ok", "warn", "fail"]
_MANY = 3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found. mend: what to do, "" where nothing is to be done."""

    check: str
    level: Level
    detail: str
    mend: str = ""


def examine(settings: Settings, now: datetime) -> list[Finding]:
    """Every check that can be made; those of the rows only on a database that is there and migrated."""
    found = [*_secrets(settings), *_addresses(settings), _clock(now), *_permissions(settings)]
    try:
        there = _database_file(settings)
    except SQLAlchemyError:
        return [*found, _url_is_none()]
    if there is not None and not there.is_file():
        return [*found, _fail("database", f"{there}: no such file", f"create it: {MIGRATE}")]
    try:
        database = Database(settings.database_url)
    except (SQLAlchemyError, ImportError, ValueError):
        return [*found, _url_is_none()]
    try:
        state = _migrations(database)
        found.append(state)
        if state.level == "ok":
            found += _rows(settings, database, now)
    except SQLAlchemyError as error:
        cause = str(error.orig if isinstance(error, DBAPIError) else error).splitlines()[0]
        found.append(_fail("database", cause, f"start the database, or correct {PREFIX}DATABASE_URL"))
    finally:
        database.close()
    return found


def _ok(check: str, detail: str) -> Finding:
    return Finding(check=check, level="ok", detail=detail)


def _warn(check: str, detail: str, mend: str) -> Finding:
    return Finding(check=check, level="warn", detail=detail, mend=mend)


def _fail(check: str, detail: str, mend: str) -> Finding:
    return Finding(check=check, level="fail", detail=detail, mend=mend)


def _url_is_none() -> Finding:
    mend = f"set {PREFIX}DATABASE_URL to sqlite:///file or postgresql+psycopg://user:password@host/name"
    return _fail("database", "the URL is none of SQLite or PostgreSQL", mend)


def _secrets(settings: Settings) -> Iterator[Finding]:
    key = settings.secret_key.get_secret_value()
    if len(set(key)) < 12:
        yield _fail("secret key", f"only {len(set(key))} different characters", _new_secret("SECRET_KEY"))
    else:
        yield _ok("secret key", f"{len(key)} characters")
    secrets = settings.webhook_secret.get_secret_value().split()
    if not secrets:
        yield _fail("webhook secret", "not set: no payment's message is believed", f"set {PREFIX}WEBHOOK_SECRET")
    elif len(secrets) > 1:
        yield _warn("webhook secret", f"{len(secrets)} at once", "take the old one out once the provider has changed")
    else:
        yield _ok("webhook secret", "set")
    provider = settings.provider_key.get_secret_value()
    if len(provider) < 16:
        what = "not set" if not provider else f"{len(provider)} characters"
        yield _fail("provider key", what, _new_secret("PROVIDER_KEY"))
    else:
        yield _ok("provider key", f"{len(provider)} characters")


def _new_secret(name: str) -> str:
    return f'set {PREFIX}{name} to what python -c "import secrets; print(secrets.token_urlsafe(48))" prints'


def _addresses(settings: Settings) -> Iterator[Finding]:
    if settings.public_url.endswith("/"):
        yield _fail("public address", settings.public_url, f"take the slash at the end out of {PREFIX}PUBLIC_URL")
    elif not settings.public_url.startswith("https://") and "//127.0.0.1" not in settings.public_url:
        yield _warn("public address", f"{settings.public_url} is not encrypted", "put a proxy with TLS before it")
    else:
        yield _ok("public address", settings.public_url)
    host, port = _host_of(settings.provider_url)
    try:
        socket.create_connection((host, port), timeout=3).close()
        yield _ok("payment provider", settings.provider_url)
    except OSError:
        mend = f"start it, or correct {PREFIX}PROVIDER_URL; to develop: zhiyin platform sandbox"
        yield _warn("payment provider", f"{settings.provider_url} does not answer", mend)


def _host_of(url: str) -> tuple[str, int]:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _clock(now: datetime) -> Finding:
    # Where nothing else tells the time, the newest file of this program does: the clock cannot be before it.
    written = datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
    if now < written - timedelta(days=1):
        return _fail("clock", f"{now:%Y-%m-%d %H:%M} UTC is before this program was installed", "set the clock (NTP)")
    return _ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _permissions(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_folder
    private = [
        path
        for path in (_database_path(settings), settings.erasure_journal, folder / "keys", *_files(folder / "keys"))
        if path
    ]
    open_ones = [path for path in private if path.exists() and path.stat().st_mode & 0o077]
    for path in open_ones[:_MANY]:
        mend = f"chmod {'700' if path.is_dir() else '600'} {path}"
        if path.name.endswith(".key"):
            yield _fail("permissions", f"{path}: others may read it", f"{mend}; replace the key if others had access")
        else:
            yield _warn("permissions", f"{path}: others may read it", mend)
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not os.access(place, os.W_OK):
        yield _fail("data folder", f"{place} cannot be written", f"chown it, or correct {PREFIX}DATA_FOLDER")
    elif not open_ones:
        yield _ok("permissions", "private files are their owner's alone")


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _database_path(settings: Settings) -> Path | None:
    try:
        return _database_file(settings)
    except SQLAlchemyError:
        return None


def _database_file(settings: Settings) -> Path | None:
    url = make_url(settings.database_url)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _migrations(database: Database) -> Finding:
    try:
        state = standing(database)
    except ZhiyinError as error:
        return _fail("migrations", str(error), "install the version that made the database")
    if state.pending:
        return _fail("migrations", f"{len(state.pending)} pending, at {state.current or 'none'}", f"run {MIGRATE}")
    return _ok("migrations", f"at {state.current}")


def _rows(settings: Settings, database: Database, now: datetime) -> Iterator[Finding]:
    if database.is_sqlite:
        yield _sqlite(database)
    checks: tuple[Callable[[Settings, Session, datetime], Finding], ...] = (
        _ledger, _policy, _erasures, _newest_row, _artifacts, _snapshots, _live,
    )  # fmt: skip
    for check in checks:
        with database.reading() as session:
            yield check(settings, session, now)


def _sqlite(database: Database) -> Finding:
    with database.engine.connect() as connection:
        whole = connection.exec_driver_sql("PRAGMA integrity_check(5)").scalars().all()
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if whole != ["ok"]:
        return _fail("integrity", whole[0], "stop the service and restore a backup: zhiyin platform restore")
    if broken:
        where = ", ".join(sorted({str(row[0]) for row in broken}))
        return _fail("integrity", f"{len(broken)} rows point at nothing, in {where}", "restore a backup")
    return _ok("integrity", "every page is whole and every reference points at a row")


def _ledger(settings: Settings, session: Session, now: datetime) -> Finding:
    crooked = ledger.unbalanced_journals(session)
    if crooked:
        named = ", ".join(crooked[:_MANY])
        return _fail(
            "ledger", f"{len(crooked)} journals do not sum to zero: {named}", "restore a backup; keep this one"
        )
    return _ok("ledger", "every journal sums to zero")


def _policy(settings: Settings, session: Session, now: datetime) -> Finding:
    policy = current_policy(session)
    if policy is None:
        mend = "an operator publishes one (POST /api/v1/policies); for a sample: zhiyin platform seed"
        return _warn("policy", "none: nobody can consent to anything", mend)
    return _ok("policy", f"version {policy.version}")


def _erasures(settings: Settings, session: Session, now: datetime) -> Finding:
    path = settings.erasure_journal
    try:
        found = difference(settings, session)
    except ZhiyinError as error:
        return _fail("erasure journal", str(error), "correct the file or the setting")
    if not os.access(path if found.recorded.there else path.absolute().parent, os.W_OK):
        return _fail("erasure journal", f"{path} cannot be written: nobody can be erased", "create or chown its folder")
    if found.again:
        what = f"{len(found.again)} people who were erased are there again"
        return _fail("erasure journal", what, "restart the service: it erases them before it serves anybody")
    if found.behind:
        what = (
            f"{path} is {'behind' if found.recorded.there else 'missing'}: {len(found.behind)} erasures are not in it"
        )
        return _fail("erasure journal", what, "find the file of before, or restart the service, which adds these")
    if found.recorded.unreadable:
        return _warn("erasure journal", f"{found.recorded.unreadable} lines are no id", f"look at {path}")
    return _ok("erasure journal", f"{len(found.recorded.ids)} erasures, all carried out")


def _newest_row(settings: Settings, session: Session, now: datetime) -> Finding:
    newest = session.exec(select(func.max(col(Order.created_at)))).one()
    if newest is not None and newest > now + timedelta(minutes=5):
        return _fail("time of rows", f"an order is of {newest:%Y-%m-%d %H:%M} UTC, which is to come", "set the clock")
    return _ok("time of rows", "none is to come")


def _artifacts(settings: Settings, session: Session, now: datetime) -> Finding:
    store = ArtifactStore(settings.data_folder)
    rows = session.exec(select(ModelVersion)).all()
    bad = [
        f"{row.name} {row.version}"
        for row in rows
        if any(not _has_digest(store.path(digest), digest) for digest in (row.manifest_sha256, row.model_sha256))
    ]
    if bad:
        mend = f"restore {settings.data_folder / 'models'} from a backup, or post these versions again"
        return _fail("model files", f"missing or damaged: {', '.join(bad[:_MANY])} ({len(bad)} in all)", mend)
    return _ok("model files", f"{len(rows)} versions, every file has its digest")


def _snapshots(settings: Settings, session: Session, now: datetime) -> Finding:
    rows = session.exec(select(Snapshot).order_by(col(Snapshot.version))).all()
    bad = [str(row.version) for row in rows if not _has_digest(snapshot_file(settings, row.digest), row.digest)]
    if bad:
        mend = f"restore {settings.data_folder / 'snapshots'} from a backup"
        return _fail("snapshots", f"missing or damaged: version {', '.join(bad[:_MANY])}", mend)
    if rows and not (settings.data_folder / "keys" / "catalogue-signing.key").is_file():
        return _fail("snapshots", "catalogue-signing.key is gone", "restore it: clients pin the public half")
    return _ok("snapshots", f"{len(rows)}, every file has its digest")


def _live(settings: Settings, session: Session, now: datetime) -> Finding:
    row = models.live(session, settings.recommender)
    if row is None:
        return _warn("live model", f"none of {settings.recommender}: lists are of new items", "promote one")
    loaded = LiveModels(ArtifactStore(settings.data_folder), CollectorRegistry(), monotonic=time.monotonic)
    if loaded.version(session, PublishedSnapshots(settings), row) is None:
        mend = f"zhiyin platform model rollback {row.name}"
        return _fail("live model", f"{row.name} {row.version} cannot be loaded", mend)
    return _ok("live model", f"{row.name} {row.version} loads")


def _has_digest(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_hex(path.read_bytes()) == digest
