"""Routes of snapshots."""

import json
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from platform_api.access import PUBLIC, Rule, access
from platform_api.clock import Now
from platform_api.cursors import Page, Paging
from platform_api.database import ReadSession, Turn
from platform_api.problems import Problem
from platform_api.ranges import file_response
from platform_api.snapshots import queries, service
from platform_api.snapshots.files import public_key, snapshot_file
from platform_api.snapshots.schemas import SnapshotEntry, SnapshotView
from platform_api.snapshots.tables import Snapshot

snapshots = APIRouter(tags=["snapshots"])
MAKERS = Rule(
    roles=("platform-operator", "tenant-operator"), scopes=("catalog:write",), only_as_machine=("tenant-operator",)
)
Version = Annotated[int, Path(ge=1, le=2**31 - 1)]


@snapshots.post("/snapshots", status_code=201, responses={200: {"description": "Nothing is new"}}, **access(MAKERS))
def make_snapshot(request: Request, response: Response, turn: Turn, now: Now) -> SnapshotView:
    """Make a snapshot of what is on sale; 200 and the latest one where nothing has changed since."""
    state = request.app.state
    made, is_new = service.make_snapshot(state.database, state.settings, now)
    response.status_code = 201 if is_new else 200
    return _view(request, made)


@snapshots.get("/snapshots", **access(PUBLIC))
def list_snapshots(response: Response, paging: Paging, session: ReadSession) -> Page[SnapshotEntry]:
    """Snapshots, the newest first."""
    rows = queries.before(session, None if paging.after is None else int(paging.after[0]), paging.limit + 1)
    return paging.page(
        response, rows, lambda row: (row.version,), lambda row: SnapshotEntry.model_validate(row, from_attributes=True)
    )


@snapshots.get("/snapshots/latest", **access(PUBLIC))
def read_latest(request: Request, session: ReadSession) -> SnapshotView:
    """The newest snapshot."""
    found = queries.latest(session)
    if found is None:
        raise Problem("not-found", "no snapshot was made yet")
    return _view(request, found)


@snapshots.get("/snapshots/{version}", **access(PUBLIC))
def read_snapshot(request: Request, version: Version, session: ReadSession) -> SnapshotView:
    """One snapshot."""
    return _view(request, queries.snapshot(session, version))


@snapshots.get(
    "/snapshots/{version}/file",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}},
        206: {"description": "A part of the file", "content": {"application/octet-stream": {}}},
    },
    **access(PUBLIC),
)
def read_file(request: Request, version: Version, session: ReadSession) -> Response:
    """The file. Its ETag is its digest; parts are given by Range."""
    found = queries.snapshot(session, version)
    return file_response(
        request,
        snapshot_file(request.app.state.settings, found.digest),
        etag=f'"{found.digest}"',
        media_type="application/octet-stream",
        cache="public, max-age=31536000, immutable",
    )


def _view(request: Request, row: Snapshot) -> SnapshotView:
    return SnapshotView(
        **SnapshotEntry.model_validate(row, from_attributes=True).model_dump(),
        public_key=public_key(request.app.state.settings),
        document=json.loads(row.document),
    )
