"""The till of a running service, as routes are given it."""

from typing import Annotated

from fastapi import Depends, Request

from platform_api.database import Errand
from platform_api.orders.checkout import Till
from platform_api.orders.service import Terms
from platform_api.settings import Settings


def terms_of(settings: Settings) -> Terms:
    """What the operator has set."""
    return Terms(minutes=settings.order_minutes, fee_basis_points=settings.platform_fee_basis_points)


async def _till(request: Request, errand: Errand) -> Till:
    state = request.app.state
    return Till(database=state.database, provider=state.provider, shelf=state.shelf, terms=terms_of(state.settings))


TheTill = Annotated[Till, Depends(_till)]
