"""Routes of invitations."""

import json
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from platform_api.access import OPERATORS, access
from platform_api.clock import Now
from platform_api.database import ReadSession
from platform_api.invitations import service
from platform_api.invitations.schemas import NewInvitation, SignedInvitation

invitations = APIRouter(tags=["invitations"])


@invitations.post("/clients/{client_id}/invitations", status_code=201, **access(OPERATORS))
def invite(
    request: Request,
    response: Response,
    client_id: Annotated[str, Path(max_length=64)],
    wish: NewInvitation,
    session: ReadSession,
    now: Now,
) -> SignedInvitation:
    """A file for this program's operator: `zhiyin client join` checks it and pins what it names.

    It holds no secret, and the client's secret was shown when it was enrolled. 409 while no federation is described.
    """
    response.headers["Cache-Control"] = "no-store"
    document = service.invite(session, request.app.state.settings, client_id, wish.days, now)
    return SignedInvitation(**json.loads(document))
