"""Two that write at once wait for one another in one order: neither is broken off, and the second sees the first's.

One of them is a transaction in this test's hand, stopped after its first lock; the other comes over HTTP and waits.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import Session

from platform_api.access import Caller
from platform_api.accounts import service as accounts
from platform_api.accounts.tables import User
from platform_api.app import FEATURES
from platform_api.catalogue import service as catalogue
from platform_api.consents.service import erase_everything
from platform_api.database import ALIVE
from platform_api.joints import CatalogueShelf
from platform_api.orders.queries import locked_order
from platform_api.orders.schemas import NewOrder
from platform_api.orders.service import Terms, place
from platform_api.payments import settling
from platform_api.payments.provider import Money, ProviderIntent
from tests.catalogue_cast import Market, open_market
from tests.money_cast import Rack, thing
from tests.platform.test_platform_erased_meanwhile import traces, until_somebody_waits
from tests.platform_cast import API, PASSWORD, Person, Shop

# SQLite has one writer at a time: there is nothing to wait for in two orders.
pytestmark = pytest.mark.parametrize("ready_url", ["postgresql"], indirect=True)


@pytest.fixture
def market(shop: Shop) -> Market:
    return open_market(shop)


@contextmanager
def meanwhile(
    shop: Shop, first: Callable[[Session], Any], ask: Callable[[], Any]
) -> Iterator[tuple[Session, list[Any]]]:
    """A session that has done `first` while the other waits. The list has the other's answer after the block."""
    answers: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        with shop.app.state.database.writing() as session:
            first(session)
            asked = pool.submit(ask)
            until_somebody_waits(session)
            yield session, answers
        answers.append(asked.result(timeout=20))


def caller_of(person: Person, *roles: Any) -> Caller:
    return Caller(kind="person", id=person.id, roles=frozenset(roles), scopes=frozenset(), tenant_id="")


def erasing(person: Person) -> Callable[[], Any]:
    return lambda: person.post("/me/erase", {"password": PASSWORD})


def test_a_creator_is_erased_while_one_of_several_products_is_archived(market: Market) -> None:
    shop, creator = market.shop, market.creator
    earlier, later = sorted(market.published() for _ in range(2))
    operator = caller_of(shop.register(None, "platform-operator"), "platform-operator")
    held: list[Any] = []

    def hold(session: Session) -> None:
        held.append(catalogue.managed(session, operator, later, lock=True))

    with meanwhile(shop, hold, erasing(creator)) as (session, answers):
        catalogue.archive(session, operator, held[0], shop.clock())
    assert answers[0].status_code == 200, answers[0].text
    for product_id in (earlier, later):
        assert shop.http.get(f"{API}/products/{product_id}").status_code == 404


def test_what_is_published_while_its_creator_is_erased_is_taken_off_sale_and_kept(market: Market) -> None:
    shop, creator = market.shop, market.creator
    product_id = market.draft()
    assert market.step(creator, product_id, "submit").status_code == 200
    reviewer = caller_of(market.reviewer, "reviewer")
    held: list[Any] = []

    def hold(session: Session) -> None:
        held.append(catalogue.managed(session, reviewer, product_id, lock=True))

    with meanwhile(shop, hold, erasing(creator)) as (session, answers):
        catalogue.publish(session, reviewer, held[0], shop.clock())
    assert answers[0].status_code == 200, answers[0].text
    assert shop.http.get(f"{API}/products/{product_id}").status_code == 404
    with shop.app.state.database.reading() as session:
        kept = session.execute(text("SELECT archived_at IS NOT NULL FROM products")).scalars().all()
        found = session.execute(text("SELECT COUNT(*) FROM search_documents")).scalar_one()
    assert (kept, found) == ([True], 0)


@pytest.mark.parametrize("step", ["archive", "publish"])
def test_a_category_is_renamed_while_a_product_in_it_changes(market: Market, step: str) -> None:
    shop, product_id = market.shop, market.published()
    market.edit(product_id, title="second edition")
    assert market.step(market.creator, product_id, "submit").status_code == 200
    operator = shop.register(None, "platform-operator")
    tag = shop.http.get(f"{API}/categories/privacy").headers["etag"]
    who = caller_of(market.reviewer if step == "publish" else operator, "reviewer", "platform-operator")

    def change(session: Session) -> None:
        found = catalogue.managed(session, who, product_id, lock=True)
        {"archive": catalogue.archive, "publish": catalogue.publish}[step](session, who, found, shop.clock())

    def rename() -> Any:
        return operator.send("PATCH", "/categories/privacy", {"name_en": "Secrecy"}, **{"If-Match": tag})

    with meanwhile(shop, change, rename) as (_, answers):
        pass
    assert answers[0].status_code == 200, answers[0].text
    found = [entry["id"] for entry in shop.http.get(f"{API}/search?q=secrecy edition").json()["items"]]
    assert found == ([product_id] if step == "publish" else [])


def test_a_creator_is_erased_while_an_order_of_theirs_is_closed(market: Market) -> None:
    shop, creator = market.shop, market.creator
    market.published()
    talk = market.published(kind="consulting")
    start = shop.clock() + timedelta(hours=1)
    times = {"starts_at": start.isoformat(), "ends_at": (start + timedelta(hours=1)).isoformat()}
    slot_id = market.step(creator, talk, "slots", times).json()["id"]
    wish = NewOrder.model_validate({"lines": [{"product_id": talk, "slot_id": slot_id}]})
    shelf, terms = CatalogueShelf(), Terms(minutes=30, fee_basis_points=0)
    with shop.app.state.database.writing() as session:
        order = place(session, shelf, creator.id, wish, terms, shop.clock())
    amount = Money(minor=order.total_minor, currency=order.currency)
    intent = ProviderIntent(id="int_1", order_id=order.id, amount=amount, status="cancelled", pay_url="")

    with meanwhile(shop, lambda session: locked_order(session, order.id), erasing(creator)) as (session, answers):
        held = locked_order(session, order.id)
        assert held is not None
        # The payment's id is noted, then the order is closed: its row is written twice.
        assert settling.adopt_intent(session, shelf, held, intent, shop.clock())
    assert answers[0].status_code == 200, answers[0].text
    with shop.app.state.database.reading() as session:
        left = session.execute(text("SELECT status, user_id FROM orders")).all()
        holds = session.execute(text("SELECT COUNT(*) FROM slot_holds")).scalar_one()
    assert (left, holds) == ([("cancelled", None)], 0)


def test_a_buyer_is_erased_while_an_order_is_placed(shop: Shop) -> None:
    buyer = shop.register()
    shop.app.state.shelf = rack = Rack()
    rack.put(thing("prd_free", 0))
    kept: list[User] = []

    def hold(session: Session) -> None:
        kept.append(session.get_one(User, buyer.id, with_for_update=ALIVE))

    def order() -> Any:
        return buyer.post("/orders", {"lines": [{"product_id": "prd_free"}]}, key="k")

    with meanwhile(shop, hold, order) as (session, answers):
        erase_everything(session, FEATURES, shop.app.state.erasures, buyer.id, kept[0].password_hash, shop.clock())
    assert answers[0].status_code == 401, answers[0].text
    assert traces(shop, buyer) == {}


def test_two_operators_give_each_other_roles_at_once(shop: Shop) -> None:
    one, other = (shop.register(None, "platform-operator") for _ in range(2))
    wish = {"roles": ["platform-operator", "reviewer"]}
    with ThreadPoolExecutor(1) as pool, shop.app.state.database.writing() as session:
        accounts.set_roles(session, one.id, frozenset({"platform-operator", "reviewer"}), None)
        # Whose roles are being changed changes others' meanwhile, and waits for nothing.
        answer = pool.submit(one.send, "PUT", f"/users/{other.id}/roles", wish).result(timeout=5)
    assert answer.json()["roles"] == ["learner", "platform-operator", "reviewer"]
