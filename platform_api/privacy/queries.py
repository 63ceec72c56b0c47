"""Reading the ledger."""

from sqlmodel import Session, col, select

from platform_api.privacy.tables import PrivacyRelease


def releases_before(session: Session, before: int | None, limit: int) -> list[PrivacyRelease]:
    """Newest first."""
    wanted = select(PrivacyRelease).order_by(col(PrivacyRelease.number).desc()).limit(limit)
    return list(session.exec(wanted if before is None else wanted.where(col(PrivacyRelease.number) < before)).all())


def all_releases(session: Session) -> list[PrivacyRelease]:
    return list(session.exec(select(PrivacyRelease).order_by(col(PrivacyRelease.number))).all())
