"""Every feature at once, joined as the service joins them: from a draft to a recommendation that knows the purchase."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from platform_api.app import create_app
from platform_api.catalogue.queries import note_shelf_change
from platform_api.sandbox.provider import Sandbox
from platform_api.snapshots.service import PublishedSnapshots
from shared.catalogue import CatalogueSnapshot
from tests import catalogue_cast, money_cast
from tests.platform_cast import API, Hand, Person, opened_shop
from tests.platform_histories import agree, publish
from tests.platform_models import NUM_ITEMS, publisher_of


@dataclass
class Town:
    """A shop with a catalogue, a live model of its snapshot, a provider and a policy."""

    catalogue: catalogue_cast.Market
    money: money_cast.Market
    snapshot: CatalogueSnapshot
    ids: list[str]

    def learner(self) -> Person:
        person = self.catalogue.shop.register()
        agree(person, "service-personalisation")
        return person

    def listed(self, person: Person, k: int = NUM_ITEMS) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = person.get(f"/recommendations?k={k}").json()["items"]
        return found


@pytest.fixture
def town(settings_of: Any) -> Iterator[Town]:
    clock = Hand()
    sandbox = Sandbox(webhook_secret=money_cast.SECRET, api_key=money_cast.KEY, clock=clock)
    provider = money_cast.provider_of(sandbox)
    with opened_shop(settings_of(), clock, provider=provider) as shop:
        market = catalogue_cast.open_market(shop)
        wishes = [{"title": f"隐私课程 {number}", "price_minor": 1_000 + number} for number in range(NUM_ITEMS)]
        ids = market.stock(wishes)
        publisher = publisher_of(shop)
        shop.app.state.snapshots = PublishedSnapshots(shop.settings)
        made = publisher.operator.post("/snapshots")
        assert made.status_code == 201, made.text
        with shop.app.state.database.reading() as session:
            snapshot = shop.app.state.snapshots.catalogue(session, made.json()["digest"])
        publisher.make_live(1, catalogue=snapshot)
        publish(shop)
        yield Town(market, money_cast.Market(shop, money_cast.Rack(), sandbox), snapshot, ids)
    provider.close()
    sandbox.books.close()


def test_what_is_bought_leaves_the_list_and_gives_reasons_on_it(town: Town) -> None:
    learner, stranger = town.learner(), town.learner()
    before = town.listed(learner)
    assert len(before) == NUM_ITEMS
    assert {item["reason"] for item in before} <= {"popular", "new"}
    first, second = before[0]["product_id"], before[5]["product_id"]
    town.money.buy(learner, first, second)
    after = town.listed(learner)
    assert {item["product_id"] for item in before} - {item["product_id"] for item in after} == {first, second}
    assert {item["because_of"] for item in after if item["reason"] == "because_of_item"} <= {first, second}
    assert any(item["reason"] == "because_of_item" for item in after)
    assert town.listed(stranger) == before


def test_buyers_read_their_version_and_may_say_what_it_is_worth(town: Town) -> None:
    buyer, stranger = town.learner(), town.learner()
    product = town.ids[3]
    town.money.buy(buyer, product)
    assert town.catalogue.edit(product, content="第二版").status_code == 200
    town.catalogue.release(product)
    assert buyer.get(f"/products/{product}/versions/1").json()["content"] == "第一课"
    assert buyer.get(f"/products/{product}/versions/2").status_code == 404
    assert stranger.get(f"/products/{product}/versions/1").status_code == 404
    wish = {"rating": 5, "text": "很好", "show_name": False}
    assert buyer.send("PUT", f"/products/{product}/reviews/mine", wish).status_code == 201
    assert stranger.send("PUT", f"/products/{product}/reviews/mine", wish).status_code in (403, 404, 409)


def test_a_refund_takes_the_right_to_read_and_the_place_in_the_history(town: Town) -> None:
    buyer, operator = town.learner(), town.catalogue.shop.register(None, "platform-operator")
    product = town.ids[0]
    order = town.money.buy(buyer, product)
    assert product not in {item["product_id"] for item in town.listed(buyer)}
    assert town.money.refund(operator, order).status_code == 201
    town.money.deliver()
    assert buyer.get(f"/products/{product}/versions/1").status_code == 404
    assert product in {item["product_id"] for item in town.listed(buyer)}
    town.money.sums()


def test_an_archived_product_leaves_every_list_and_stays_with_its_buyers(town: Town) -> None:
    buyer, other = town.learner(), town.learner()
    product = town.ids[2]
    town.money.buy(buyer, product)
    assert town.catalogue.step(town.catalogue.creator, product, "archive").status_code == 200
    assert product not in {item["product_id"] for item in town.listed(other)}
    assert other.get(f"/products/{product}").status_code == 404
    assert other.get("/search?q=隐私课程").json()["items"]
    assert product not in {item["id"] for item in other.get("/search?q=隐私课程&limit=100").json()["items"]}
    assert town.money.order(other, product).status_code == 404
    assert buyer.get(f"/products/{product}/versions/1").status_code == 200


def test_what_one_process_takes_off_sale_leaves_the_lists_of_every_other(town: Town) -> None:
    """Each keeps what it read of the shelves, and none longer than it is true."""
    first = town.catalogue.shop.app
    with TestClient(create_app(first.state.settings, clock=town.catalogue.shop.clock)) as second:

        def shown() -> set[str]:
            found = second.get(f"{API}/recommendations?k={NUM_ITEMS}").json()["items"]
            return {item["product_id"] for item in found}

        assert town.ids[4] in shown()
        assert town.catalogue.step(town.catalogue.creator, town.ids[4], "archive").status_code == 200
        assert town.ids[4] not in shown()
        assert len(shown()) == NUM_ITEMS - 1


def test_consulting_is_recommended_only_while_a_slot_ahead_is_free(town: Town) -> None:
    buyer, stranger, clock = town.learner(), town.learner(), town.catalogue.shop.clock
    operator = town.catalogue.shop.register(None, "platform-operator")
    talk = town.ids[4]
    with town.catalogue.shop.app.state.database.writing() as session:
        session.execute(text("UPDATE products SET kind = 'consulting' WHERE id = :id"), {"id": talk})
        note_shelf_change(session)
    assert "consulting" in stranger.get(f"/products/{talk}").text

    def shown() -> tuple[bool, bool]:
        """What the model may rank, and among the newest."""
        on_sale = town.catalogue.shop.app.state.on_sale
        with town.catalogue.shop.app.state.database.reading() as session:
            newest = on_sale.newest(session, category=None, limit=100)
            ranked = bool(on_sale.available(session, town.snapshot)[town.snapshot.index[talk]])
        assert (talk in {item["product_id"] for item in town.listed(stranger)}) == ranked
        return ranked, talk in {item.id for item in newest}

    def offer(hours: float) -> str:
        begins = clock() + timedelta(hours=hours)
        wish = {"starts_at": begins.isoformat(), "ends_at": (begins + timedelta(minutes=30)).isoformat()}
        answer = town.catalogue.step(town.catalogue.creator, talk, "slots", wish)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    assert shown() == (False, False)
    slot = offer(2)
    assert shown() == (True, True)
    order = town.money.buy(buyer, talk, slot_id=slot)
    assert shown() == (False, False)
    assert town.money.refund(operator, order).status_code == 201
    assert shown() == (True, True)
    assert [entry["id"] for entry in stranger.get(f"/products/{talk}/slots").json()["items"]] == [slot]
    tag = town.catalogue.etag(town.catalogue.creator, talk)
    target = f"/products/{talk}/slots/{slot}"
    assert town.catalogue.creator.send("DELETE", target, **{"If-Match": tag}).status_code == 204
    assert shown() == (False, False)
    # A slot that nobody booked passes: nothing is written, and the time alone ends it.
    offer(0.1)
    assert shown() == (True, True)
    clock.forward(minutes=6)
    assert shown() == (False, False)


def test_an_erased_person_is_in_no_table_and_the_books_still_balance(town: Town) -> None:
    buyer = town.catalogue.shop.register("planted-canary@example.org")
    agree(buyer, "service-personalisation")
    town.money.buy(buyer, town.ids[1])
    wish = {"rating": 4, "text": "planted review", "show_name": True}
    assert buyer.send("PUT", f"/products/{town.ids[1]}/reviews/mine", wish).status_code == 201
    told = buyer.get("/me/export").text
    assert "planted-canary" in told
    assert "planted review" in told
    from tests.platform_cast import PASSWORD

    assert buyer.post("/me/erase", {"password": PASSWORD}).status_code == 200
    assert buyer.get("/me").status_code == 401
    database = town.catalogue.shop.app.state.database
    from sqlalchemy import text

    from platform_api.columns import metadata

    with database.reading() as session:
        for name in metadata.tables:
            rows = str(session.execute(text(f'SELECT * FROM "{name}"')).all())
            assert "planted" not in rows, name
    town.money.sums()
