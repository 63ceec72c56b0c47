"""Consent, and purchases, ratings and products on sale as tests want them, in place of the features that keep them."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session

from platform_api.recommendations.history_port import Held
from platform_api.recommendations.on_sale_port import PublicItem
from shared.catalogue import CatalogueSnapshot
from tests.platform_cast import Person, Shop

START = datetime(2029, 6, 1, 8, tzinfo=UTC)


@dataclass
class FixedHistories:
    """Histories by user id."""

    bought: dict[str, list[tuple[str, datetime]]] = field(default_factory=dict)
    rated: dict[str, list[tuple[str, int, datetime]]] = field(default_factory=dict)
    given: dict[str, set[str]] = field(default_factory=dict)

    def buy(self, user_id: str, *products: str) -> None:
        """One a day, in this order."""
        there = self.bought.setdefault(user_id, [])
        there += [(product, START + timedelta(days=len(there) + day)) for day, product in enumerate(products)]

    def held(self, session: Session, user_id: str) -> Held:
        bought = tuple(reversed(self.bought.get(user_id, [])))
        given = self.given.get(user_id, set())
        return Held(purchases=bought, owned=frozenset(product for product, _ in bought) | frozenset(given))

    def ratings(self, session: Session, user_id: str) -> list[tuple[str, int, datetime]]:
        return self.rated.get(user_id, [])


@dataclass
class FixedOnSale:
    """Products by id in the order in which they came on sale; titles as now; what is withdrawn stays described."""

    products: dict[str, PublicItem]
    withdrawn: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, catalogue: CatalogueSnapshot) -> "FixedOnSale":
        items = (PublicItem(id=item.id, title=item.title, category=item.category) for item in catalogue.items)
        return cls(products={item.id: item for item in items})

    def add(self, product_id: str, category: str = "maths") -> None:
        self.products[product_id] = PublicItem(id=product_id, title=f"新 {product_id}", category=category)

    def available(self, session: Session, catalogue: CatalogueSnapshot) -> NDArray[np.bool_]:
        shown = set(self.products) - self.withdrawn
        return np.array([item.id in shown for item in catalogue.items])

    def describe(self, session: Session, ids: Collection[str]) -> dict[str, PublicItem]:
        return {name: self.products[name] for name in ids if name in self.products}

    def newest(self, session: Session, *, category: str | None, limit: int) -> list[PublicItem]:
        shown = [item for name, item in reversed(self.products.items()) if name not in self.withdrawn]
        return [item for item in shown if category in (None, item.category)][:limit]


POLICY = {"text_zh": "政策", "text_en": "policy"}


def publish(shop: Shop) -> int:
    operator = shop.register(None, "platform-operator")
    answer = operator.post("/policies", POLICY)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["version"])


def agree(person: Person, *purposes: str, given: bool = True, version: int = 1) -> None:
    wish = {"purposes": dict.fromkeys(purposes, given), "policy_version": version}
    answer = person.send("PUT", "/me/consents", wish)
    assert answer.status_code == 200, answer.text
