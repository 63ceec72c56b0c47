"""Creators, reviewers and what they put on sale, for tests of the platform."""

from dataclasses import dataclass
from typing import Any

from platform_api.access import Caller
from platform_api.catalogue import categories, queries, service
from platform_api.catalogue.schemas import NewCategory, NewProduct
from tests.platform_cast import Person, Shop


@dataclass
class Market:
    """People of a shop that has two categories: `subjects`, and `privacy` below it."""

    shop: Shop
    creator: Person
    reviewer: Person

    def wish(self, **changes: Any) -> dict[str, Any]:
        return {
            "kind": "course",
            "title": "隐私计算入门",
            "description": "从差分隐私到联邦学习",
            "content": "第一课",
            "language": "zh-CN",
            "category": "privacy",
            "price_minor": 19_900,
            "currency": "CNY",
            **changes,
        }

    def draft(self, creator: Person | None = None, **changes: Any) -> str:
        made = (creator or self.creator).post("/products", self.wish(**changes))
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def etag(self, person: Person, product_id: str) -> str:
        return str(person.get(f"/products/{product_id}/manage").headers["etag"])

    def step(self, person: Person, product_id: str, step: str, body: Any = None) -> Any:
        """One step of a product's life, with the ETag of this moment."""
        tag = self.etag(person, product_id)
        return person.post(f"/products/{product_id}/{step}", body, **{"If-Match": tag})

    def edit(self, product_id: str, **changes: Any) -> Any:
        tag = self.etag(self.creator, product_id)
        return self.creator.send("PATCH", f"/products/{product_id}", changes, **{"If-Match": tag})

    def release(self, product_id: str) -> None:
        """Through review onto the shelves."""
        for person, step in ((self.creator, "submit"), (self.reviewer, "publish")):
            answer = self.step(person, product_id, step)
            assert answer.status_code == 200, answer.text

    def published(self, **changes: Any) -> str:
        product_id = self.draft(**changes)
        self.release(product_id)
        return product_id

    def stock(self, wishes: list[dict[str, Any]]) -> list[str]:
        """Many products at once, without the way over HTTP."""
        return stock(self.shop, self.creator.id, self.reviewer.id, [self.wish(**wish) for wish in wishes])


def open_market(shop: Shop) -> Market:
    with shop.app.state.database.writing() as session:
        for slug, parent, chinese, english in (
            ("subjects", None, "学科", "Subjects"),
            ("privacy", "subjects", "隐私保护", "Privacy"),
            ("programming", "subjects", "编程", "Programming"),
        ):
            categories.add_category(
                session, NewCategory(slug=slug, parent_slug=parent, name_zh=chinese, name_en=english)
            )
    return Market(shop, shop.register(None, "creator"), shop.register(None, "reviewer"))


def stock(shop: Shop, creator_id: str, reviewer_id: str, wishes: list[dict[str, Any]]) -> list[str]:
    """Put products on sale through the services, in one transaction; their ids in the order of the wishes."""
    creator, reviewer = _caller(creator_id, "creator"), _caller(reviewer_id, "reviewer")
    ids = []
    with shop.app.state.database.writing() as session:
        for wish in wishes:
            now = shop.clock()
            found = service.create(session, creator, NewProduct(**wish), now)
            found = service.submit(session, creator, found, now)
            ids.append(service.publish(session, reviewer, found, now).product.id)
            shop.clock.forward(seconds=1)
        assert len(queries.published_products(session, ids)) == len(ids)
    return ids


def _caller(user_id: str, role: Any) -> Caller:
    return Caller(kind="person", id=user_id, roles=frozenset({role}), scopes=frozenset(), tenant_id="")
