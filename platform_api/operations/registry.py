"""The model registry from the command line: what is there, promote, roll back."""

from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from platform_api.access import Caller
from platform_api.database import Database
from platform_api.models import queries, service
from platform_api.models.files import ArtifactStore
from platform_api.models.tables import ModelVersion
from platform_api.problems import Problem
from platform_api.settings import Settings
from platform_api.snapshots.service import PublishedSnapshots
from shared.errors import ArtifactRejected, BadSetting

# Stands in the history of models for whoever has the database and the data folder.
COMMAND_LINE = Caller(
    kind="machine", id="command-line", roles=frozenset({"platform-operator"}), scopes=frozenset(), tenant_id=""
)


def listed(database: Database) -> list[dict[str, Any]]:
    """Every version, highest first within its name."""
    wanted = select(ModelVersion).order_by(col(ModelVersion.name), col(ModelVersion.version).desc())
    with database.reading() as session:
        return [
            row.model_dump(mode="json", include={"name", "version", "state", "recipe", "model_bytes", "posted_at"})
            for row in session.exec(wanted).all()
        ]


def promoted(
    settings: Settings, database: Database, name: str, version: int, now: datetime, *, shadow: bool = False
) -> None:
    """Make a version live, or the shadow; the gate is passed again. Raises ArtifactRejected with its reasons."""
    store, snapshots = ArtifactStore(settings.data_folder), PublishedSnapshots(settings)
    with database.writing() as session:
        row = _found(session, name, version)
        try:
            service.promote(
                session, snapshots, store, row, "shadow" if shadow else "live", service.limits_of(settings),
                COMMAND_LINE, now,
            )  # fmt: skip
        except Problem as problem:
            reasons = "; ".join(str(reason.get("detail", reason)) for reason in problem.extra.get("reasons", ()))
            raise ArtifactRejected(f"{name} {version}: {problem}{': ' if reasons else ''}{reasons}") from None


def rolled_back(settings: Settings, database: Database, name: str, now: datetime) -> tuple[int, int]:
    """Take the live version back; its number, and that of the one that is live again. Raises ArtifactRejected."""
    with database.writing() as session:
        row = queries.live(session, name)
        if row is None:
            raise BadSetting(f"nothing of the name {name} is live; zhiyin platform model list shows what there is")
        try:
            restored = service.roll_back(session, ArtifactStore(settings.data_folder), row, COMMAND_LINE, now)
        except Problem as problem:
            raise ArtifactRejected(f"{name} {row.version}: {problem}") from None
        return row.version, restored.version


def _found(session: Session, name: str, version: int) -> ModelVersion:
    row = queries.version(session, name, version)
    if row is None:
        raise BadSetting(f"there is no version {version} of {name}; zhiyin platform model list shows what there is")
    return row
