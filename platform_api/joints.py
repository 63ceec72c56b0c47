"""Where features meet: what orders, lists and the registry ask of one another, answered by those that know.

Each asks through a protocol of its own; only this module imports both sides.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, time

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session

from platform_api.catalogue import queries as catalogue
from platform_api.catalogue import slots
from platform_api.clock import Clock
from platform_api.orders import entitlements
from platform_api.orders.shelf import Sellable
from platform_api.recommendations.history_port import Held
from platform_api.recommendations.on_sale_port import PublicItem
from platform_api.reviews import queries as reviews
from shared.catalogue import CatalogueSnapshot


class CatalogueShelf:
    """The catalogue as orders see it."""

    def sellable(self, session: Session, product_id: str) -> Sellable:
        found = catalogue.sellable(session, product_id)
        tenant_id, creator_user_id = catalogue.seller_of(session, product_id)
        return Sellable(
            product_id=found.id,
            version=found.version,
            kind=found.kind,
            title=found.title,
            price_minor=found.price_minor,
            currency=found.currency,
            seller_tenant_id=tenant_id or "",
            creator_user_id=creator_user_id,
        )

    def hold_slot(self, session: Session, slot_id: str, order_id: str, now: datetime) -> str:
        return slots.hold_slot(session, slot_id, order_id, now).product_id

    def release_slot(self, session: Session, slot_id: str, order_id: str) -> None:
        slots.release_slot(session, slot_id, order_id)


class CatalogueOnSale:
    """The catalogue as lists see it. What can be bought is read once for each change of the shelves.

    It is kept until the next free slot of consulting begins, and never longer.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: tuple[str, int, datetime | None, NDArray[np.bool_]] | None = None

    def available(self, session: Session, snapshot: CatalogueSnapshot) -> NDArray[np.bool_]:
        # The number is read first: shelves that change in between are noted under the older one, and read again.
        number = catalogue.shelf_number(session)
        now, known = self._clock(), self._known
        if known is not None and known[:2] == (snapshot.digest, number) and (known[2] is None or now < known[2]):
            return known[3]
        shown = np.zeros(snapshot.num_items, dtype=np.bool_)
        shown[[snapshot.index[found] for found in catalogue.ids_buyable(session, now) if found in snapshot.index]] = (
            True
        )
        shown.flags.writeable = False
        self._known = snapshot.digest, number, catalogue.next_free_slot(session, now), shown
        return shown

    def describe(self, session: Session, ids: Collection[str]) -> Mapping[str, PublicItem]:
        return {
            found.id: PublicItem(id=found.id, title=found.title, category=found.category)
            for found in catalogue.ever_published(session, ids)
        }

    def newest(self, session: Session, *, category: str | None, limit: int) -> list[PublicItem]:
        filters = catalogue.Filters(category=category)
        found = catalogue.listed(session, filters, "newest", None, limit, buyable_at=self._clock())
        return [PublicItem(id=entry.id, title=entry.title, category=entry.category) for entry in found]


class PaidHistories:
    """What a person bought and rated."""

    def held(self, session: Session, user_id: str) -> Held:
        claims = entitlements.active(session, user_id)
        return Held(
            purchases=tuple((claim.product_id, claim.granted_at) for claim in claims if claim.granted_at is not None),
            owned=frozenset(claim.product_id for claim in claims),
        )

    def ratings(self, session: Session, user_id: str) -> list[tuple[str, int, datetime]]:
        # The day is all that is kept of when a review was written.
        return [
            (review.product_id, review.rating, datetime.combine(review.written_on, time(), UTC))
            for review in reviews.of_person(session, user_id)
        ]
