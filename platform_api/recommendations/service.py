"""Whose history may be used, and the list that comes of it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session, col, delete

from platform_api.accounts.tables import User
from platform_api.consents.service import has_consent
from platform_api.database import ALIVE
from platform_api.models.live import Loaded
from platform_api.recommendations.history_port import Histories
from platform_api.recommendations.lists import Line, Ranked, ranked
from platform_api.recommendations.on_sale_port import OnSale, PublicItem
from platform_api.recommendations.schemas import Entry, Explanation, FoldedIn, ModelUsed, Stages, SwitchState
from platform_api.recommendations.sentences import sentence
from platform_api.recommendations.tables import RecommendationSetting
from shared.catalogue import CatalogueSnapshot

PURPOSE: Literal["service-personalisation"] = "service-personalisation"
_LOW_STARS = 2


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked for. language: of the sentences."""

    k: int
    diversity: float
    category: str | None
    language: str


@dataclass(frozen=True, kw_only=True)
class Permission:
    """Both must be there for anything of a person to be used."""

    consent: bool
    switched_on: bool

    @property
    def personal(self) -> bool:
        return self.consent and self.switched_on


@dataclass(frozen=True, kw_only=True, eq=False)
class _History:
    places: NDArray[np.int32]
    owned: frozenset[str]
    counts: FoldedIn


_NOBODY = _History(
    places=np.empty(0, dtype=np.int32),
    owned=frozenset(),
    counts=FoldedIn(purchases=0, left_out_for_low_rating=0, left_out_for_other_catalogue=0, folded_in=0),
)


def permission(session: Session, user_id: str | None) -> Permission:
    """What one person allows; nobody who is logged in allows nothing."""
    if user_id is None:
        return Permission(consent=False, switched_on=False)
    setting = session.get(RecommendationSetting, user_id)
    return Permission(
        consent=has_consent(session, user_id, PURPOSE), switched_on=setting is None or setting.personalised
    )


def explained(
    session: Session,
    loaded: Loaded | None,
    histories: Histories,
    on_sale: OnSale,
    user_id: str | None,
    wish: Wish,
) -> Explanation:
    """The list with every stage that it went through.

    Without permission nothing of the person is read, what they own neither: all such people get one list.
    """
    allowed = permission(session, user_id)
    history = _NOBODY
    if allowed.personal and user_id is not None:
        history = _history(session, histories, user_id, None if loaded is None else loaded.catalogue)
    chosen = _ranked(session, on_sale, loaded, history, wish)
    fresh = _newest(session, on_sale, chosen.lines, history.owned, wish)
    lines = [*chosen.lines, *(Line(product_id=item.id, reason="new") for item in fresh)]
    return Explanation(
        model=used(loaded),
        consent=allowed.consent,
        switched_on=allowed.switched_on,
        personalised=allowed.personal,
        history=history.counts,
        stages=Stages(
            candidates=chosen.candidates,
            after_owned=chosen.after_owned,
            after_availability=chosen.after_availability,
            after_diversity=len(chosen.lines),
            new=len(fresh),
        ),
        diversity=wish.diversity,
        items=_entries(session, on_sale, lines, wish.language),
    )


def overlap(one: Explanation, other: Explanation) -> float:
    """Share of the items of one list that the other one has too; 1 for an empty list."""
    mine = {item.product_id for item in one.items}
    return len(mine & {item.product_id for item in other.items}) / len(mine) if mine else 1.0


def used(loaded: Loaded | None) -> ModelUsed | None:
    """Which model it was."""
    if loaded is None:
        return None
    return ModelUsed(name=loaded.name, version=loaded.version, digest=loaded.digest, degraded=loaded.degraded)


def switch_state(session: Session, user_id: str) -> SwitchState:
    """The switch and its effect."""
    allowed = permission(session, user_id)
    return SwitchState(
        personalised=allowed.switched_on,
        consent=allowed.consent,
        effect="personal" if allowed.personal else "same-for-all",
    )


def turn(session: Session, user_id: str, personalised: bool, now: datetime) -> None:
    """Turn personal lists on or off, from the next request on."""
    # The person's row is locked, so that two requests at once make one setting.
    session.get_one(User, user_id, with_for_update=ALIVE)
    setting = session.get(RecommendationSetting, user_id)
    if setting is None:
        session.add(RecommendationSetting(user_id=user_id, personalised=personalised, changed_at=now))
    else:
        setting.personalised, setting.changed_at = personalised, now
    session.flush()


def export_setting(session: Session, user_id: str) -> dict[str, Any]:
    """The switch. Lists are not kept."""
    setting = session.get(RecommendationSetting, user_id)
    return {} if setting is None else {"setting": setting.model_dump(mode="json")}


def erase_setting(session: Session, user_id: str, now: datetime) -> None:
    """Remove the switch."""
    session.exec(delete(RecommendationSetting).where(col(RecommendationSetting.user_id) == user_id))


def _history(session: Session, histories: Histories, user_id: str, catalogue: CatalogueSnapshot | None) -> _History:
    held = histories.held(session, user_id)
    bought = sorted(held.purchases, key=lambda entry: (entry[1], entry[0]))
    disliked = {product for product, stars, _ in histories.ratings(session, user_id) if stars <= _LOW_STARS}
    # Bought again, an item speaks as the last time.
    order = list(dict.fromkeys(product for product, _ in reversed(bought)))[::-1]
    liked = [product for product in order if product not in disliked]
    index: Mapping[str, int] = {} if catalogue is None else catalogue.index
    places = [index[product] for product in liked if product in index]
    return _History(
        places=np.array(places, dtype=np.int32),
        owned=held.owned | frozenset(order),
        counts=FoldedIn(
            purchases=len(order),
            left_out_for_low_rating=len(order) - len(liked),
            left_out_for_other_catalogue=len(liked) - len(places),
            folded_in=len(places),
        ),
    )


def _ranked(session: Session, on_sale: OnSale, loaded: Loaded | None, history: _History, wish: Wish) -> Ranked:
    if loaded is None:
        return Ranked(lines=(), candidates=0, after_owned=0, after_availability=0)
    return ranked(
        loaded,
        history.places,
        owned=history.owned,
        available=on_sale.available(session, loaded.catalogue),
        category=wish.category,
        k=wish.k,
        diversity=wish.diversity,
    )


def _newest(
    session: Session, on_sale: OnSale, lines: tuple[Line, ...], owned: Collection[str], wish: Wish
) -> list[PublicItem]:
    missing = wish.k - len(lines)
    if missing <= 0:
        return []
    seen = {line.product_id for line in lines} | set(owned)
    # So many that enough are left when all that was seen is among them.
    newest = on_sale.newest(session, category=wish.category, limit=missing + len(seen))
    return [item for item in newest if item.id not in seen][:missing]


def _entries(session: Session, on_sale: OnSale, lines: list[Line], language: str) -> list[Entry]:
    spoke = {line.because_of for line in lines if line.because_of is not None}
    described = on_sale.describe(session, {line.product_id for line in lines} | spoke)
    entries = []
    for line in lines:
        item = described.get(line.product_id)
        because_of = None if line.because_of is None else described.get(line.because_of)
        if item is not None:
            title = "" if because_of is None else because_of.title
            entries.append(
                Entry(
                    product_id=item.id,
                    title=item.title,
                    category=item.category,
                    reason=line.reason,
                    because_of=line.because_of,
                    sentence=sentence(line.reason, language, title),
                )
            )
    return entries
