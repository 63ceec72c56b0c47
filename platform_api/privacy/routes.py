"""Routes of the public privacy ledger."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from platform_api.access import PUBLIC, access
from platform_api.cursors import Page, Paging
from platform_api.database import ReadSession
from platform_api.privacy import queries, service
from platform_api.privacy.page import CONTENT_SECURITY_POLICY, ledger_page
from platform_api.privacy.schemas import ReleaseEntry, Totals

privacy = APIRouter(tags=["privacy"])
pages = APIRouter(tags=["privacy"])
_ON_A_PAGE = 100


@privacy.get("/privacy-ledger", **access(PUBLIC))
def ledger(response: Response, paging: Paging, session: ReadSession) -> Page[ReleaseEntry]:
    """Every release that was recorded, newest first."""
    before = None if paging.after is None else int(paging.after[0])
    rows = queries.releases_before(session, before, paging.limit + 1)
    return paging.page(response, rows, lambda row: (row.number,), service.entry)


@privacy.get("/privacy-ledger/totals", **access(PUBLIC))
def ledger_totals(request: Request, session: ReadSession) -> Totals:
    """What the releases of each model family cost together, composed, and what all of them do."""
    return service.totals(session, request.app.state.settings.model_max_delta)


@pages.get("/privacy", response_class=HTMLResponse, **access(PUBLIC))
def page(
    request: Request, session: ReadSession, before: Annotated[int | None, Query(ge=1, le=2**53)] = None
) -> HTMLResponse:
    """The ledger for people."""
    rows = queries.releases_before(session, before, _ON_A_PAGE + 1)
    older = rows[_ON_A_PAGE - 1].number if len(rows) > _ON_A_PAGE else None
    totals = service.totals(session, request.app.state.settings.model_max_delta)
    body = ledger_page([service.entry(row) for row in rows[:_ON_A_PAGE]], totals, older)
    return HTMLResponse(body, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})
