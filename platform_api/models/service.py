"""Candidates, the gate, promotion and rolling back. A model is trusted for its signature and judged on its claims."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select, update

from platform_api.access import Caller
from platform_api.columns import new_id
from platform_api.models import gate, queries
from platform_api.models.evaluation import BadReport, Evaluation, read_report
from platform_api.models.files import ArtifactStore
from platform_api.models.gate import Limits, LiveModel, Reason
from platform_api.models.schemas import NewPublisher
from platform_api.models.snapshots_port import Snapshots
from platform_api.models.tables import ModelEvent, ModelPointer, ModelPublisher, ModelVersion
from platform_api.privacy.service import record_release
from platform_api.problems import Problem
from platform_api.settings import Settings
from shared.artifact import Artifact, ArtifactFiles, open_artifact
from shared.canonical import sha256_hex, strict_json
from shared.catalogue import CatalogueSnapshot
from shared.errors import ZhiyinError

_KEY = re.compile(r"[0-9a-f]{64}")
_MAX_VERSION = 2**31 - 1
_MAX_TEXT = 2_000


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What was posted; its signature verifies under `public_key`, which need not be anybody's yet."""

    artifact: Artifact
    public_key: str
    files: ArtifactFiles
    report: Evaluation | None
    report_reasons: tuple[Reason, ...] = ()


def limits_of(settings: Settings) -> Limits:
    """What the operator allows."""
    return Limits(
        max_epsilon=settings.model_max_epsilon,
        max_delta=settings.model_max_delta,
        margin=round(settings.model_max_loss * 1e6),
    )


def open_upload(name: str, manifest: bytes, model: bytes, report: bytes | None) -> Upload:
    """Verify and read what was posted, without the database. Raises Problem (422): nothing of it can be believed."""
    files = ArtifactFiles(model=model, manifest=manifest)
    try:
        public_key = strict_json(manifest)["publisher"]
        if not isinstance(public_key, str) or not _KEY.fullmatch(public_key):
            raise ValueError("publisher must be a key")
        artifact = open_artifact(files, publisher_public_key=bytes.fromhex(public_key))
        _check_fields(artifact)
    except ZhiyinError as error:
        raise _unbelievable(str(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise _unbelievable("the manifest is not one of this format") from None
    if artifact.name != name:
        raise _unbelievable(f"the manifest is of a model {artifact.name!r}")
    if report is None:
        return Upload(artifact=artifact, public_key=public_key, files=files, report=None)
    try:
        return Upload(artifact=artifact, public_key=public_key, files=files, report=read_report(report, public_key))
    except BadReport as error:
        reasons = (Reason(code="bad-evaluation", detail=str(error)),)
        return Upload(artifact=artifact, public_key=public_key, files=files, report=None, report_reasons=reasons)


def judge(session: Session, snapshots: Snapshots, upload: Upload, limits: Limits) -> list[Reason]:
    """Every reason against a model of a trusted publisher, as things stand."""
    artifact = upload.artifact
    live = queries.live(session, artifact.name)
    against = None if live is None else LiveModel(model_sha256=live.model_sha256)
    digests = (sha256_hex(upload.files.model), artifact.catalogue_digest)
    return [
        *gate.privacy_reasons(artifact.privacy, limits),
        *gate.ranking_reasons(artifact, _catalogue(session, snapshots, artifact.catalogue_digest)),
        *(upload.report_reasons or gate.metric_reasons(upload.report, digests, against, limits)),
    ]


def require_publisher(session: Session, public_key: str) -> ModelPublisher:
    """The trusted publisher of that key. Raises Problem (422)."""
    publisher = queries.publisher_by_key(session, public_key)
    if publisher is None or publisher.revoked_at is not None:
        raise _unbelievable("its signature is of no trusted publisher")
    return publisher


def add_version(
    session: Session, store: ArtifactStore, upload: Upload, reasons: list[Reason], by: Caller, now: datetime
) -> ModelVersion:
    """Keep the files, then the row, and the release in the privacy ledger: it happened, whatever the gate says.

    The same artifact again gives the row that is there. Raises Problem (409) for another one of the same version.
    """
    publisher, artifact = require_publisher(session, upload.public_key), upload.artifact
    manifest_digest, model_digest = store.keep(upload.files.manifest), store.keep(upload.files.model)
    row = ModelVersion(
        id=new_id("mdl"),
        name=artifact.name,
        version=artifact.version,
        state="refused" if reasons else "candidate",
        publisher_id=publisher.id,
        manifest_sha256=manifest_digest,
        model_sha256=model_digest,
        model_bytes=len(upload.files.model),
        catalogue_digest=artifact.catalogue_digest,
        recipe=artifact.recipe,
        evaluation="" if upload.report is None else upload.report.to_text(),
        reasons=json.dumps(gate.as_json(reasons), ensure_ascii=False),
        posted_at=now,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        there = queries.version(session, artifact.name, artifact.version)
        if there is None or there.manifest_sha256 != manifest_digest:
            raise Problem("conflict", f"version {artifact.version} of {artifact.name} is another artifact") from None
        return there
    record_release(session, artifact, version_id=row.id, refused=bool(reasons), now=now)
    _happened(session, row, "refused" if reasons else "posted", None, by, now)
    return row


def promote(
    session: Session,
    snapshots: Snapshots,
    store: ArtifactStore,
    row: ModelVersion,
    to: str,
    limits: Limits,
    by: Caller,
    now: datetime,
) -> None:
    """Make a candidate or shadow live, or a candidate the shadow. The gate is passed again, beside what is live now.

    Raises Problem (409) with the reasons where it does not pass any more.
    """
    pointer = _locked_pointer(session, row.name)
    session.refresh(row)
    if row.state not in ("candidate", "shadow") or (to == "shadow" and row.state == "shadow"):
        raise Problem("conflict", f"version {row.version} is {row.state}")
    reasons = judge(session, snapshots, _stored(session, store, row), limits)
    if reasons:
        raise Problem("conflict", "it does not pass the gate any more", reasons=gate.as_json(reasons))
    if to == "shadow":
        _set_state(session, pointer.shadow_id, "candidate")
        row.state, pointer.shadow_id = "shadow", row.id
        _happened(session, row, "shadowed", pointer.live_id, by, now)
        return
    if pointer.shadow_id == row.id:
        pointer.shadow_id = None
    _happened(session, row, "promoted", pointer.live_id, by, now)
    _set_state(session, pointer.live_id, "retired")
    row.state, pointer.live_id = "live", row.id


def roll_back(session: Session, store: ArtifactStore, row: ModelVersion, by: Caller, now: datetime) -> ModelVersion:
    """Take the live version back and restore the one before it, which is returned.

    Raises Problem (409) where `row` is not live, nothing was live before it, or that cannot be trusted any more.
    """
    pointer = _locked_pointer(session, row.name)
    if pointer.live_id != row.id:
        raise Problem("conflict", f"version {row.version} is not live")
    earlier = queries.replaced_by(session, row.id)
    restored = None if earlier is None else session.get(ModelVersion, earlier)
    if restored is None:
        raise Problem("conflict", "nothing was live before it")
    _stored(session, store, restored)
    _happened(session, row, "rolled-back", restored.id, by, now)
    row.state, restored.state, pointer.live_id = "retired", "live", restored.id
    return restored


def register_publisher(session: Session, wish: NewPublisher, now: datetime) -> ModelPublisher:
    """Trust a key. Raises Problem (409) for one that is or was known: a revoked key stays revoked."""
    row = ModelPublisher(id=new_id("pub"), name=wish.name, public_key=wish.public_key, registered_at=now)
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        raise Problem("conflict", "this key is known already") from None
    return row


def export_actions(session: Session, user_id: str) -> dict[str, Any]:
    """What an operator did to models."""
    return {"actions": [event.model_dump(mode="json") for event in queries.events_of(session, user_id)]}


def erase_actions(session: Session, user_id: str, now: datetime) -> None:
    """The history stays; that it was this operator does not."""
    session.exec(update(ModelEvent).where(col(ModelEvent.user_id) == user_id).values(user_id=None))


def _check_fields(artifact: Artifact) -> None:
    texts: Iterable[Any] = (artifact.recipe, *(getattr(artifact.privacy, n) for n in ("against", "scope")))
    if not all(isinstance(text, str) and 0 < len(text) <= _MAX_TEXT and text.isprintable() for text in texts):
        raise ValueError("texts must be printable")
    if len(artifact.recipe) > 64 or not all(
        isinstance(digest, str) and _KEY.fullmatch(digest)
        for digest in (artifact.catalogue_digest, artifact.plan_digest)
    ):
        raise ValueError("digests must be SHA-256 in hex")
    if type(artifact.version) is not int or not 1 <= artifact.version <= _MAX_VERSION:
        raise ValueError("version must be a whole number")
    if type(artifact.created) is not int or not 0 <= artifact.created <= 253_402_300_799:
        raise ValueError("created must be Unix seconds")


def _catalogue(session: Session, snapshots: Snapshots, digest: str) -> CatalogueSnapshot | None:
    return snapshots.catalogue(session, digest) if snapshots.known_digest(session, digest) else None


def _stored(session: Session, store: ArtifactStore, row: ModelVersion) -> Upload:
    # Read anew and verified under a publisher that is still trusted.
    publisher = session.get_one(ModelPublisher, row.publisher_id)
    if publisher.revoked_at is not None:
        raise Problem("conflict", f"the publisher of version {row.version} is not trusted any more")
    try:
        files = ArtifactFiles(model=store.read(row.model_sha256), manifest=store.read(row.manifest_sha256))
        artifact = open_artifact(files, publisher_public_key=bytes.fromhex(publisher.public_key))
    except (OSError, ZhiyinError):
        raise Problem("conflict", f"the files of version {row.version} are damaged; post it again") from None
    report = Evaluation.from_text(row.evaluation) if row.evaluation else None
    return Upload(artifact=artifact, public_key=publisher.public_key, files=files, report=report)


def _locked_pointer(session: Session, name: str) -> ModelPointer:
    wanted = select(ModelPointer).where(col(ModelPointer.name) == name).with_for_update()
    found = session.exec(wanted).one_or_none()
    if found is None:
        try:
            with session.begin_nested():
                session.add(ModelPointer(name=name))
        except IntegrityError:
            pass  # another request was first; its row is locked below
        found = session.exec(wanted).one()
    return found


def _set_state(session: Session, version_id: str | None, state: str) -> None:
    if version_id is not None:
        session.get_one(ModelVersion, version_id).state = state


def _happened(
    session: Session, row: ModelVersion, kind: str, previous_id: str | None, by: Caller, now: datetime
) -> None:
    person = by.kind == "person"
    session.add(
        ModelEvent(
            name=row.name,
            version_id=row.id,
            previous_id=previous_id,
            kind=kind,
            at=now,
            client_id=None if person else by.id,
            user_id=by.id if person else None,
        )
    )
    session.flush()


def _unbelievable(detail: str) -> Problem:
    return Problem("invalid", detail, errors=[{"field": "manifest", "message": detail, "code": "artifact"}])
