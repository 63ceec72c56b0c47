"""Routes of recommendations."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from platform_api.access import ANY_PERSON, PUBLIC, KnownCaller, MaybeCaller, access
from platform_api.accounts.tables import User
from platform_api.clock import Now
from platform_api.database import ReadSession, WriteSession
from platform_api.models.queries import shadow
from platform_api.models.snapshots_port import KnownSnapshots
from platform_api.recommendations import service
from platform_api.recommendations.history_port import KnownHistories
from platform_api.recommendations.on_sale_port import KnownOnSale
from platform_api.recommendations.schemas import Explanation, RecommendationList, Switch, SwitchState
from platform_api.recommendations.sentences import language_of
from platform_api.recommendations.service import Wish

recommendations = APIRouter(tags=["recommendations"])


def _explanation(
    request: Request,
    response: Response,
    caller: MaybeCaller,
    session: ReadSession,
    snapshots: KnownSnapshots,
    histories: KnownHistories,
    on_sale: KnownOnSale,
    k: Annotated[int, Query(ge=1, le=100, description="how many items")] = 10,
    diversity: Annotated[float, Query(ge=0, le=1, description="0: as ranked; 1: as unlike each other as can be")] = 0.0,
    category: Annotated[str | None, Query(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")] = None,
) -> Explanation:
    # A program has no history of its own: it gets what everybody gets.
    user_id = caller.id if caller is not None and caller.kind == "person" else None
    language = language_of(request.headers.get("accept-language", ""))
    if user_id is not None:
        language = session.get_one(User, user_id).language
    response.headers["Vary"] = "Authorization, Accept-Language"
    state = request.app.state
    loaded = state.models.current(session, snapshots, state.settings.recommender)
    wish = Wish(k=k, diversity=diversity, category=category, language=language)
    made = service.explained(session, loaded, histories, on_sale, user_id, wish)
    beside = shadow(session, state.settings.recommender)
    other = None if beside is None else state.models.version(session, snapshots, beside)
    if other is not None:
        again = service.explained(session, other, histories, on_sale, user_id, wish)
        state.models.overlap.labels(other.name).observe(service.overlap(made, again))
    return made


MadeList = Annotated[Explanation, Depends(_explanation)]


@recommendations.get("/recommendations", **access(PUBLIC))
def recommended(made: MadeList) -> RecommendationList:
    """A list for the caller: personal with consent to `service-personalisation`, else the same for everybody.

    A personal list has nothing that its caller owns; every list has only what is on sale, and each item says why it
    is there. The list for everybody is made without looking at the caller, what they own included.
    """
    return RecommendationList(items=made.items, personalised=made.personalised, model=made.model)


@recommendations.get("/recommendations/explain", **access(PUBLIC))
def explain(made: MadeList) -> Explanation:
    """The same list with every stage that it went through."""
    return made


@recommendations.get("/me/recommendation-settings", **access(ANY_PERSON))
def my_switch(caller: KnownCaller, session: ReadSession) -> SwitchState:
    """Whether one's lists are personal."""
    return service.switch_state(session, caller.id)


@recommendations.put("/me/recommendation-settings", **access(ANY_PERSON))
def turn_my_switch(wish: Switch, caller: KnownCaller, session: WriteSession, now: Now) -> SwitchState:
    """Turn personal lists off, or on again."""
    service.turn(session, caller.id, wish.personalised, now)
    return service.switch_state(session, caller.id)
