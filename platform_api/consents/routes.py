"""Routes of policies, consent, export, erasure and training data."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse, PlainTextResponse

from platform_api.access import ANY_PERSON, OPERATORS, PUBLIC, KnownCaller, Rule, access
from platform_api.accounts import service as accounts
from platform_api.accounts.tables import User
from platform_api.clock import Now
from platform_api.consents import queries, service, training
from platform_api.consents.schemas import (
    ConsentChange,
    Consents,
    Erased,
    Erasure,
    NewPolicy,
    PolicyEntry,
    ReceiptEntry,
)
from platform_api.consents.tables import Policy
from platform_api.cursors import Page, Paging
from platform_api.database import Hashing, ReadSession, WriteSession
from platform_api.models.snapshots_port import KnownSnapshots
from platform_api.problems import Problem
from platform_api.rates import Attempt
from platform_api.recommendations.history_port import KnownHistories

consents = APIRouter(tags=["consents"])
JOINS = Rule(scopes=("fl:join",), machines_only=True)
_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


@consents.post("/policies", status_code=201, **access(OPERATORS))
def publish_policy(wish: NewPolicy, session: WriteSession, now: Now) -> PolicyEntry:
    """Publish the next version. Personalisation and training stop for everybody who has not agreed to it."""
    return _policy(service.publish_policy(session, wish, now))


@consents.get("/policies", **access(PUBLIC))
def policies(response: Response, paging: Paging, session: ReadSession) -> Page[PolicyEntry]:
    """All versions, newest first."""
    before = None if paging.after is None else int(paging.after[0])
    rows = queries.policies_before(session, before, paging.limit + 1)
    return paging.page(response, rows, lambda row: (row.version,), _policy)


@consents.get("/policies/current", **access(PUBLIC))
def current_policy(session: ReadSession) -> PolicyEntry:
    """The version that holds now."""
    policy = queries.current_policy(session)
    if policy is None:
        raise Problem("not-found", "no policy has been published")
    return _policy(policy)


@consents.get("/me/consents", **access(ANY_PERSON))
def my_consents(caller: KnownCaller, session: ReadSession) -> Consents:
    """Where one stands on every purpose."""
    return service.consents(session, caller.id)


@consents.put("/me/consents", **access(ANY_PERSON))
def change_my_consents(wish: ConsentChange, caller: KnownCaller, session: WriteSession, now: Now) -> Consents:
    """Give or withdraw consent. It counts from the next request on."""
    service.change_consents(session, caller.id, wish, now)
    return service.consents(session, caller.id)


@consents.get("/me/consents/receipts", **access(ANY_PERSON))
def my_receipts(response: Response, caller: KnownCaller, paging: Paging, session: ReadSession) -> Page[ReceiptEntry]:
    """Every yes and no, in order."""
    after = None if paging.after is None else int(paging.after[0])
    rows = queries.receipts_after(session, caller.id, after, paging.limit + 1)
    return paging.page(
        response, rows, lambda row: (row.number,), lambda row: ReceiptEntry.model_validate(row, from_attributes=True)
    )


@consents.get("/me/export", **access(ANY_PERSON))
def export_me(request: Request, caller: KnownCaller, session: ReadSession, now: Now) -> JSONResponse:
    """Everything that is kept of the caller, by feature, as one document."""
    body = service.export_everything(session, request.app.state.features, caller.id)
    headers = {"Content-Disposition": 'attachment; filename="zhiyin-export.json"', "Cache-Control": "no-store"}
    return JSONResponse(jsonable_encoder({"user_id": caller.id, "exported_at": now, "features": body}), headers=headers)


@consents.post("/me/erase", **access(ANY_PERSON))
def erase_me(
    request: Request, wish: Erasure, caller: KnownCaller, attempt: Attempt, hashing: Hashing, now: Now
) -> Erased:
    """Erase the caller: everything at once or nothing. Records of money stay and are nobody's. Ends every log-in."""
    state = request.app.state
    with state.database.reading() as session:
        checked = session.get_one(User, caller.id).password_hash
    accounts.check(wish.password, checked)
    with state.database.writing() as session:
        done = service.erase_everything(session, state.features, state.erasures, caller.id, checked, now)
    return Erased(erased_at=now, features=done)


@consents.get("/training/interactions", response_class=PlainTextResponse, responses=_CSV, **access(JOINS))
def training_interactions(
    request: Request,
    caller: KnownCaller,
    paging: Paging,
    session: ReadSession,
    snapshots: KnownSnapshots,
    histories: KnownHistories,
    snapshot: Annotated[str, Query(pattern="^[0-9a-f]{64}$", description="digest of the catalogue snapshot")],
) -> Response:
    """Purchases of the caller's tenant's learners who agree to training, as CSV: user, item, timestamp (the day).

    A page has up to `limit` learners, each whole; `Link` leads to the next. Only the first page has the header line,
    so that pages put together are one file for the client's import. For a tenant's program, not for people.
    """
    if not caller.tenant_id:
        raise Problem("forbidden", "this needs a program of a tenant")
    if not snapshots.known_digest(session, snapshot):
        raise Problem("not-found", "no such snapshot was published")
    settings = request.app.state.settings
    after = None if paging.after_id is None else training.open_place(settings, paging.after_id)
    learners = training.consenting(session, caller.tenant_id, after, paging.limit + 1)
    response = PlainTextResponse("", media_type="text/csv", headers={"Cache-Control": "no-store"})
    page = paging.page(response, learners, lambda user_id: (training.seal_place(settings, user_id),), str)
    rows = training.training_histories(
        session, histories, settings, caller.tenant_id, page.items, snapshots.catalogue(session, snapshot)
    )
    return PlainTextResponse(
        training.as_csv(rows, header=after is None),
        media_type="text/csv",
        headers={name: value for name, value in response.headers.items() if name in ("link", "cache-control")},
    )


def _policy(row: Policy) -> PolicyEntry:
    return PolicyEntry.model_validate(row, from_attributes=True)
