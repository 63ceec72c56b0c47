"""Reading snapshots."""

from sqlmodel import Session, col, select

from platform_api.problems import Problem
from platform_api.snapshots.tables import CataloguePosition, Snapshot


def latest(session: Session) -> Snapshot | None:
    return session.exec(select(Snapshot).order_by(col(Snapshot.version).desc()).limit(1)).one_or_none()


def snapshot(session: Session, version: int) -> Snapshot:
    """Raises Problem (404)."""
    found = session.get(Snapshot, version)
    if found is None:
        raise Problem("not-found", "no such snapshot")
    return found


def by_digest(session: Session, digest: str) -> Snapshot | None:
    return session.exec(select(Snapshot).where(col(Snapshot.digest) == digest)).one_or_none()


def before(session: Session, version: int | None, limit: int) -> list[Snapshot]:
    """Snapshots, the newest first."""
    wanted = select(Snapshot).order_by(col(Snapshot.version).desc()).limit(limit)
    return list(session.exec(wanted if version is None else wanted.where(col(Snapshot.version) < version)).all())


def placed(session: Session) -> list[str]:
    """Product ids in the order of their places."""
    rows = session.exec(select(CataloguePosition.product_id).order_by(col(CataloguePosition.position)))
    return list(rows.all())
