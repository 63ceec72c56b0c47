"""Reading the registry."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from platform_api.models.tables import ModelEvent, ModelPointer, ModelPublisher, ModelVersion


def publisher_by_key(session: Session, public_key: str) -> ModelPublisher | None:
    return session.exec(select(ModelPublisher).where(col(ModelPublisher.public_key) == public_key)).one_or_none()


def publishers_after(session: Session, after: str | None, limit: int) -> list[ModelPublisher]:
    wanted = select(ModelPublisher).order_by(col(ModelPublisher.id)).limit(limit)
    return list(session.exec(wanted if after is None else wanted.where(col(ModelPublisher.id) > after)).all())


def version(session: Session, name: str, number: int) -> ModelVersion | None:
    wanted = select(ModelVersion).where(col(ModelVersion.name) == name, col(ModelVersion.version) == number)
    return session.exec(wanted).one_or_none()


def versions_before(session: Session, name: str, before: int | None, limit: int) -> list[ModelVersion]:
    """Highest first."""
    wanted = select(ModelVersion).where(col(ModelVersion.name) == name).order_by(col(ModelVersion.version).desc())
    if before is not None:
        wanted = wanted.where(col(ModelVersion.version) < before)
    return list(session.exec(wanted.limit(limit)).all())


def live(session: Session, name: str) -> ModelVersion | None:
    """The version that is live now."""
    joined = select(ModelVersion).join(ModelPointer, col(ModelPointer.live_id) == col(ModelVersion.id))
    return session.exec(joined.where(col(ModelPointer.name) == name)).one_or_none()


def shadow(session: Session, name: str) -> ModelVersion | None:
    """The version that runs in the shadow now."""
    joined = select(ModelVersion).join(ModelPointer, col(ModelPointer.shadow_id) == col(ModelVersion.id))
    return session.exec(joined.where(col(ModelPointer.name) == name)).one_or_none()


def replaced_by(session: Session, version_id: str) -> str | None:
    """The version that was live when this one was promoted."""
    wanted = select(ModelEvent).where(col(ModelEvent.version_id) == version_id, col(ModelEvent.kind) == "promoted")
    event = session.exec(wanted.order_by(col(ModelEvent.number).desc()).limit(1)).one_or_none()
    return None if event is None else event.previous_id


def live_and_before(session: Session, name: str) -> Iterator[ModelVersion]:
    """The live version, then the ones that rolling back would restore, newest first."""
    found = live(session, name)
    while found is not None:
        yield found
        earlier = replaced_by(session, found.id)
        found = None if earlier is None else session.get(ModelVersion, earlier)


def events_after(
    session: Session, name: str, after: int | None, limit: int
) -> list[tuple[ModelEvent, int, int | None]]:
    """Events in order, with the numbers of the version and of the one that was live before."""
    before: Any = aliased(ModelVersion)
    wanted = (
        select(ModelEvent, ModelVersion.version, before.version)
        .join(ModelVersion, col(ModelEvent.version_id) == col(ModelVersion.id))
        .outerjoin(before, col(ModelEvent.previous_id) == before.id)
        .where(col(ModelEvent.name) == name)
        .order_by(col(ModelEvent.number))
        .limit(limit)
    )
    if after is not None:
        wanted = wanted.where(col(ModelEvent.number) > after)
    return [(event, number, earlier) for event, number, earlier in session.exec(wanted).all()]


def events_of(session: Session, user_id: str) -> list[ModelEvent]:
    """What an operator did."""
    wanted = select(ModelEvent).where(col(ModelEvent.user_id) == user_id).order_by(col(ModelEvent.number))
    return list(session.exec(wanted).all())
