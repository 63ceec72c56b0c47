"""A shop with everything that a list needs, for tests of recommendations."""

from typing import Any

from tests.platform_cast import API, Person, Shop
from tests.platform_histories import FixedHistories, FixedOnSale, agree, publish
from tests.platform_models import CATALOGUE, Publisher, publisher_of


class Street:
    """A shop with a live model, its catalogue on sale, and a policy."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.histories = shop.app.state.histories = FixedHistories()
        self.on_sale = shop.app.state.on_sale = FixedOnSale.of(CATALOGUE)
        self.publisher: Publisher = publisher_of(shop)
        publish(shop)

    def buyer(self, *products: str, consent: bool = True) -> Person:
        person = self.shop.register()
        if consent:
            agree(person, "service-personalisation")
        self.histories.buy(person.id, *products)
        return person


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["product_id"] for item in answer.json()["items"]]


def anonymous(street: Street, query: str = "") -> Any:
    return street.shop.http.get(f"{API}/recommendations{query}")
