"""The till of a running service, as routes are given it."""

from typing import Annotated

from fastapi import Depends, Request

from platform_api.database import Errand
from platform_api.orders.checkout import Till
from platform_api.orders.service import Terms


def _till(request: Request, errand: Errand) -> Till:
    state = request.app.state
    settings = state.settings
    terms = Terms(minutes=settings.order_minutes, fee_basis_points=settings.platform_fee_basis_points)
    return Till(database=state.database, provider=state.provider, shelf=state.shelf, terms=terms)


TheTill = Annotated[Till, Depends(_till)]
