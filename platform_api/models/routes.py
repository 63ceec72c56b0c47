"""Routes of the model registry."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from platform_api.access import OPERATORS, PUBLIC, KnownCaller, Rule, access
from platform_api.clock import Now
from platform_api.cursors import Page, Paging
from platform_api.database import ReadSession, Turn, WriteSession, hold_caller
from platform_api.models import queries, service
from platform_api.models.files import ArtifactStore
from platform_api.models.schemas import EventEntry, NewPublisher, Promotion, PublisherEntry, VersionEntry
from platform_api.models.snapshots_port import KnownSnapshots
from platform_api.models.tables import ModelPublisher, ModelVersion
from platform_api.models.uploads import Parts, described
from platform_api.problems import Problem
from platform_api.ranges import file_response

models = APIRouter(tags=["models"])
PUBLISHES = Rule(scopes=("models:publish",))
ModelName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", examples=["recommender"])]
Number = Annotated[int, Path(ge=1, le=2**31 - 1, examples=[1])]
_FOREVER = "public, max-age=31536000, immutable"


async def _store_of(request: Request) -> ArtifactStore:
    store: ArtifactStore = request.app.state.artifacts
    return store


Store = Annotated[ArtifactStore, Depends(_store_of)]
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "A part of it"},
}


@models.post("/model-publishers", status_code=201, **access(OPERATORS))
def register_publisher(wish: NewPublisher, session: WriteSession, now: Now) -> PublisherEntry:
    """Trust models that are signed with this key."""
    return _publisher(service.register_publisher(session, wish, now))


@models.get("/model-publishers", **access(PUBLIC))
def publishers(response: Response, paging: Paging, session: ReadSession) -> Page[PublisherEntry]:
    """Keys that are or were trusted, by id: what a client may pin."""
    rows = queries.publishers_after(session, paging.after_id, paging.limit + 1)
    return paging.page(response, rows, lambda row: (row.id,), _publisher)


@models.delete("/model-publishers/{publisher_id}", status_code=204, **access(OPERATORS))
def revoke_publisher(publisher_id: Annotated[str, Path(max_length=64)], session: WriteSession, now: Now) -> None:
    """Trust no more models of this key. What is live stays until it is rolled back."""
    publisher = session.get(ModelPublisher, publisher_id)
    if publisher is None:
        raise Problem("not-found", "no such publisher")
    publisher.revoked_at = publisher.revoked_at or now


@models.post("/models/{name}/candidates", status_code=201, **described(access(PUBLISHES)))
def post_candidate(
    request: Request,
    name: ModelName,
    parts: Parts,
    turn: Turn,
    caller: KnownCaller,
    snapshots: KnownSnapshots,
    store: Store,
    now: Now,
) -> VersionEntry:
    """Hand in a signed artifact. The answer says whether it passed the gate: state `candidate`, or `refused` and why.

    Parts: `manifest` (manifest.json), `model` (model.safetensors) and `evaluation` (a signed report). 422 without a row
    for an artifact that no trusted publisher signed. The same artifact again gives the same answer.
    """
    state = request.app.state
    upload = service.open_upload(name, parts.manifest, parts.model, parts.evaluation)
    # Judging takes a while; a writer would keep all others waiting meanwhile.
    with state.database.reading() as session:
        service.require_publisher(session, upload.public_key)
        reasons = service.judge(session, snapshots, upload, service.limits_of(state.settings))
    with state.database.writing() as session:
        hold_caller(request, session)
        return _version(service.add_version(session, store, upload, reasons, caller, now))


@models.get("/models/{name}/versions", **access(PUBLISHES))
def versions(name: ModelName, response: Response, paging: Paging, session: ReadSession) -> Page[VersionEntry]:
    """All versions, refused ones too, highest first."""
    before = None if paging.after is None else int(paging.after[0])
    rows = queries.versions_before(session, name, before, paging.limit + 1)
    return paging.page(response, rows, lambda row: (row.version,), _version)


@models.get("/models/{name}/versions/{number}", **access(PUBLISHES))
def version(name: ModelName, number: Number, session: ReadSession) -> VersionEntry:
    """One version, with the reasons where it was refused."""
    return _version(_found(queries.version(session, name, number)))


@models.post("/models/{name}/versions/{number}/promote", **access(OPERATORS))
def promote(
    request: Request,
    name: ModelName,
    number: Number,
    wish: Promotion,
    caller: KnownCaller,
    session: WriteSession,
    snapshots: KnownSnapshots,
    store: Store,
    now: Now,
) -> VersionEntry:
    """Make a version live, or the shadow. The gate is passed again, beside what is live now; 409 gives the reasons."""
    row = _found(queries.version(session, name, number))
    limits = service.limits_of(request.app.state.settings)
    service.promote(session, snapshots, store, row, wish.to, limits, caller, now)
    return _version(row)


@models.post("/models/{name}/versions/{number}/rollback", **access(OPERATORS))
def roll_back(
    name: ModelName, number: Number, caller: KnownCaller, session: WriteSession, store: Store, now: Now
) -> VersionEntry:
    """Take this live version back. The version that was live before it is live again, and is the answer."""
    row = _found(queries.version(session, name, number))
    return _version(service.roll_back(session, store, row, caller, now))


@models.get("/models/{name}/history", **access(PUBLISHES))
def history(name: ModelName, response: Response, paging: Paging, session: ReadSession) -> Page[EventEntry]:
    """Everything that happened to models of this name, in order. Nothing in it is ever changed."""
    after = None if paging.after is None else int(paging.after[0])
    rows = queries.events_after(session, name, after, paging.limit + 1)
    return paging.page(
        response,
        rows,
        lambda row: (row[0].number,),
        lambda row: EventEntry.model_validate(
            {**row[0].model_dump(), "version": row[1], "previous_version": row[2]}, strict=False
        ),
    )


@models.get("/models/{name}/live", **access(PUBLIC))
def live(request: Request, name: ModelName, session: ReadSession, store: Store) -> Response:
    """The signed manifest of the live version, as it was signed. Its ETag is its SHA-256."""
    row = _found(queries.live(session, name), "nothing of this name is live")
    return _manifest(request, store, row, "no-cache")


@models.get("/models/{name}/versions/{number}/manifest", **access(PUBLIC))
def manifest(request: Request, name: ModelName, number: Number, session: ReadSession, store: Store) -> Response:
    """The signed manifest of a version that is or was live."""
    return _manifest(request, store, _published(queries.version(session, name, number)), _FOREVER)


@models.get("/models/{name}/versions/{number}/model", responses=_FILE, **access(PUBLIC))
def tensors(request: Request, name: ModelName, number: Number, session: ReadSession, store: Store) -> Response:
    """The tensors of a version that is or was live (safetensors); a Range gives a part. The ETag is their SHA-256."""
    row = _published(queries.version(session, name, number))
    return file_response(
        request,
        store.path(row.model_sha256),
        etag=f'"{row.model_sha256}"',
        media_type="application/octet-stream",
        cache=_FOREVER,
    )


def _manifest(request: Request, store: ArtifactStore, row: ModelVersion, cache: str) -> Response:
    return file_response(
        request,
        store.path(row.manifest_sha256),
        etag=f'"{row.manifest_sha256}"',
        media_type="application/json",
        cache=cache,
    )


def _found(row: ModelVersion | None, detail: str = "no such version") -> ModelVersion:
    if row is None:
        raise Problem("not-found", detail)
    return row


def _published(row: ModelVersion | None) -> ModelVersion:
    if row is None or row.state not in ("live", "retired"):
        raise Problem("not-found", "no such version was published")
    return row


def _publisher(row: ModelPublisher) -> PublisherEntry:
    return PublisherEntry.model_validate(row, from_attributes=True)


def _version(row: ModelVersion) -> VersionEntry:
    kept = row.model_dump(exclude={"id", "reasons", "evaluation"})
    evaluation = json.loads(row.evaluation) if row.evaluation else None
    return VersionEntry(**kept, reasons=json.loads(row.reasons), evaluation=evaluation)
