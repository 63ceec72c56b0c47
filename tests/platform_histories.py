"""Consent, and purchases, ratings and products on sale as tests want them, in place of the features that keep them."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlmodel import Session

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

    def purchases(self, session: Session, user_id: str) -> list[tuple[str, datetime]]:
        return list(reversed(self.bought.get(user_id, [])))

    def ratings(self, session: Session, user_id: str) -> list[tuple[str, int, datetime]]:
        return self.rated.get(user_id, [])

    def owned(self, session: Session, user_id: str) -> Collection[str]:
        return {product for product, _ in self.bought.get(user_id, [])} | self.given.get(user_id, set())


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
