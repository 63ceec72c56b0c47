"""Reviews: of buyers, one each, nobody's name unless wanted, and no small counts."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from platform_api.reviews.feature import REVIEWS
from tests.catalogue_cast import Market, open_market
from tests.platform_cast import API, Person, Shop, opened_shop


class Buyers(Market):
    """A market whose first product has buyers."""

    product_id: str = ""

    def buyer(self) -> Person:
        person = self.shop.register()
        bought: set[tuple[str, str]] = self.shop.app.state.bought
        bought.add((person.id, self.product_id))
        return person


@pytest.fixture
def market(shop: Shop) -> Buyers:
    return with_buyers(shop)


def with_buyers(shop: Shop) -> Buyers:
    plain = open_market(shop)
    market = Buyers(plain.shop, plain.creator, plain.reviewer)
    market.product_id = market.published()
    shop.app.state.bought = set()
    shop.app.state.is_entitled = lambda session, user, product, version: (user, product) in shop.app.state.bought
    return market


def review(market: Buyers, person: Person, rating: int = 4, **more: Any) -> Any:
    return person.send("PUT", f"/products/{market.product_id}/reviews/mine", {"rating": rating, **more})


def shown(market: Buyers) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = market.shop.http.get(f"{API}/products/{market.product_id}/reviews").json()["items"]
    return entries


def rating(market: Buyers) -> tuple[int | None, float | None]:
    body = market.shop.http.get(f"{API}/products/{market.product_id}/rating").json()
    assert body["shown"] == (body["count"] is not None)
    return body["count"], body["average"]


def judge(market: Buyers, review_id: str, step: str, body: Any = None, person: Person | None = None) -> Any:
    reviewer = person or market.reviewer
    tag = market.reviewer.get(f"/reviews/{review_id}").headers["etag"]
    return reviewer.post(f"/reviews/{review_id}/{step}", body, **{"If-Match": tag})


def test_only_buyers_review_and_creators_do_not_review_their_own(market: Buyers) -> None:
    assert review(market, market.shop.register()).status_code == 403
    market.shop.app.state.bought.add((market.creator.id, market.product_id))
    assert review(market, market.creator).status_code == 403
    assert review(market, market.buyer()).status_code == 201
    draft, buyer = market.draft(), market.buyer()
    market.shop.app.state.bought.add((buyer.id, draft))
    for product_id in (draft, "prd_unknown"):
        answer = buyer.send("PUT", f"/products/{product_id}/reviews/mine", {"rating": 5})
        assert answer.status_code == 404


def test_a_buyer_has_one_voice_and_a_second_one_replaces_it(market: Buyers) -> None:
    people = [market.buyer() for _ in range(5)]
    for person in people:
        review(market, person, 5)
    assert rating(market) == (5, 5.0)
    again = review(market, people[0], 1, text="改主意了")
    assert (again.status_code, again.json()["rating"]) == (200, 1)
    assert rating(market) == (5, 4.2)
    assert people[0].get(f"/products/{market.product_id}/reviews/mine").json()["text"] == "改主意了"


def test_one_buyer_at_many_places_at_once_has_one_voice(market: Buyers) -> None:
    person = market.buyer()
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda number: review(market, person, 1 + number % 5).status_code, range(6)))
    assert sorted(statuses) == [200] * 5 + [201]
    assert len(market.reviewer.get(f"/products/{market.product_id}/reviews/moderation").json()["items"]) == 1


def test_below_five_ratings_neither_number_nor_average_nor_list_is_shown(market: Buyers) -> None:
    for number in range(5):
        assert rating(market) == (None, None), number
        assert shown(market) == []
        review(market, market.buyer(), 1 + number)
    assert rating(market) == (5, 3.0)
    assert len(shown(market)) == 5
    hidden = shown(market)[0]["id"]
    judge(market, hidden, "hide", {"reason": "advertising"})
    assert rating(market) == (None, None)
    assert shown(market) == []


def test_an_operator_sets_how_many_ratings_are_needed(settings_of: Any) -> None:
    with opened_shop(settings_of(min_ratings_shown=2)) as shop:
        market = with_buyers(shop)
        review(market, market.buyer(), 4)
        assert rating(market) == (None, None)
        review(market, market.buyer(), 5)
        assert rating(market) == (2, 4.5)


def test_the_public_sees_a_name_only_where_its_owner_wants_it_and_never_an_id_or_a_time(market: Buyers) -> None:
    people = [market.buyer() for _ in range(5)]
    for person in people:
        person.send("PATCH", "/me", {"display_name": f"name-of-{person.email}"})
        review(market, person, text="好", show_name=person is people[0])
    entries = shown(market)
    assert sorted(str(entry["display_name"]) for entry in entries) == ["None"] * 4 + [f"name-of-{people[0].email}"]
    assert all(set(entry) == {"id", "rating", "text", "display_name", "written_on"} for entry in entries)
    answer = market.shop.http.get(f"{API}/products/{market.product_id}/reviews").text
    assert all(person.id not in answer for person in people)
    assert all(person.email not in answer for person in people[1:])
    assert "12:00" not in answer
    review(market, people[0], text="好", show_name=False)
    assert all(entry["display_name"] is None for entry in shown(market))


def test_a_hidden_review_stays_hidden_whatever_its_author_does(market: Buyers) -> None:
    author = market.buyer()
    written = review(market, author, 1, text="spam-canary").json()
    for _ in range(6):
        review(market, market.buyer(), 5)
    assert judge(market, written["id"], "hide", {"reason": "广告"}).status_code == 200
    assert "spam-canary" not in str(shown(market))
    assert rating(market) == (6, 5.0)
    assert review(market, author, 1, text="spam-canary again").json()["hidden"] is True
    assert author.send("DELETE", f"/products/{market.product_id}/reviews/mine").status_code == 409
    assert author.get(f"/products/{market.product_id}/reviews/mine").json()["hidden_reason"] == "广告"
    assert "spam-canary" not in str(shown(market))
    judge(market, written["id"], "show")
    assert rating(market) == (7, 4.4)


def test_hiding_needs_a_reason_an_etag_and_a_reviewer_of_the_products_tenant(market: Buyers) -> None:
    author = market.buyer()
    written = review(market, author, 1, text="a").json()
    target = f"/reviews/{written['id']}"
    stale = market.reviewer.get(target).headers["etag"]
    review(market, author, 1, text="b")
    assert market.reviewer.post(f"{target}/hide", {"reason": "x"}, **{"If-Match": stale}).status_code == 412
    assert market.reviewer.post(f"{target}/hide", {"reason": "x"}).status_code == 428
    assert judge(market, written["id"], "hide", {"reason": " "}).status_code == 422
    operator = market.shop.register(None, "platform-operator")
    tenant_id = operator.post("/tenants", {"name": "Rival"}).json()["id"]
    rival = market.shop.register(None, "reviewer", tenant_id=tenant_id)
    assert judge(market, written["id"], "hide", {"reason": "x"}, rival).status_code == 404
    assert rival.get(target).status_code == 404
    assert rival.get(f"/products/{market.product_id}/reviews/moderation").status_code == 404
    assert author.post(f"{target}/hide", {"reason": "x"}).status_code == 403


def test_a_review_is_withdrawn_exported_and_erased(market: Buyers) -> None:
    people = [market.buyer() for _ in range(7)]
    for person in people:
        review(market, person, text=f"words of {person.id}")
    assert people[0].send("DELETE", f"/products/{market.product_id}/reviews/mine").status_code == 204
    assert people[0].send("DELETE", f"/products/{market.product_id}/reviews/mine").status_code == 404
    assert rating(market)[0] == 6
    database = market.shop.app.state.database
    with database.writing() as session:
        exported = REVIEWS.export(session, people[1].id)["reviews"]
        assert [entry["text"] for entry in exported] == [f"words of {people[1].id}"]
        REVIEWS.erase(session, people[1].id, market.shop.clock())
    with database.reading() as session:
        assert REVIEWS.export(session, people[1].id) == {"reviews": []}
        assert len(REVIEWS.export(session, people[2].id)["reviews"]) == 1
    assert rating(market)[0] == 5


def test_ratings_and_texts_outside_their_bounds_are_refused(market: Buyers) -> None:
    buyer = market.buyer()
    for body in ({"rating": 0}, {"rating": 6}, {"rating": 4, "text": "a\x00"}, {"rating": 4, "text": "字" * 4001}):
        assert buyer.send("PUT", f"/products/{market.product_id}/reviews/mine", body).status_code == 422
    assert review(market, buyer, 5, text="字" * 4000).status_code == 201


def test_pages_of_reviews_go_from_the_latest_day_on(market: Buyers) -> None:
    written = []
    for _ in range(6):
        written.append(review(market, market.buyer()).json()["id"])
        market.shop.clock.forward(days=1)
        market.creator = market.shop.log_in(market.creator.email)
    found: list[str] = []
    cursor = ""
    while True:
        page = market.shop.http.get(f"{API}/products/{market.product_id}/reviews?limit=4{cursor}").json()
        found += [entry["id"] for entry in page["items"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == written[::-1]
