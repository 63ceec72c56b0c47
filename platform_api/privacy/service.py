"""Writing down releases and adding them up."""

import json
from datetime import UTC, datetime

from sqlmodel import Session

from platform_api.privacy import queries
from platform_api.privacy.schemas import ReleaseEntry, TotalEntry, Totals
from platform_api.privacy.tables import PrivacyRelease
from platform_api.privacy.totals import NO_GUARANTEE, Release, total
from shared.accounting import PrivacyStatement
from shared.artifact import Artifact


def record_release(session: Session, artifact: Artifact, *, version_id: str, refused: bool, now: datetime) -> None:
    """Note what a signed artifact says was released. Once for each version."""
    privacy = artifact.privacy
    session.add(
        PrivacyRelease(
            version_id=version_id,
            model=artifact.name,
            model_version=artifact.version,
            refused=refused,
            recipe=artifact.recipe,
            plan_digest=artifact.plan_digest,
            released_at=datetime.fromtimestamp(artifact.created, UTC),
            recorded_at=now,
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            against=privacy.against,
            scope=privacy.scope,
            unit=privacy.unit,
            adjacency=privacy.adjacency,
            tuned_on_data=privacy.tuned_on_data,
            mechanisms=json.dumps(privacy.to_json()["mechanisms"]),
        )
    )
    session.flush()


def entry(row: PrivacyRelease) -> ReleaseEntry:
    """A row as it is shown."""
    fields = row.model_dump(exclude={"version_id", "mechanisms", "epsilon"})
    epsilon = row.epsilon if row.epsilon < NO_GUARANTEE else None
    return ReleaseEntry(**fields, epsilon=epsilon, mechanisms=json.loads(row.mechanisms))


def totals(session: Session, delta: float) -> Totals:
    """By family, and of everything: the same people may have taken part in all of it."""
    rows = queries.all_releases(session)
    families = sorted({row.model for row in rows})
    return Totals(
        families=[_total(family, [row for row in rows if row.model == family], delta) for family in families],
        all=_total(None, rows, delta),
    )


def _total(family: str | None, rows: list[PrivacyRelease], delta: float) -> TotalEntry:
    found = total([_release(row) for row in rows], delta)
    return TotalEntry(
        family=family,
        releases=found.num_releases,
        jobs=found.jobs,
        epsilon=found.epsilon,
        delta=found.delta,
        why=found.why,
    )


def _release(row: PrivacyRelease) -> Release:
    statement = PrivacyStatement.from_json(
        {
            **{name: getattr(row, name) for name in PrivacyStatement.__dataclass_fields__ if name != "mechanisms"},
            "mechanisms": json.loads(row.mechanisms),
        }
    )
    return Release(plan_digest=row.plan_digest, statement=statement)
