"""The life of a product: who sees which version, and who may change it."""

from typing import Any

import pytest

from platform_api.catalogue import queries
from tests.catalogue_cast import Market, open_market
from tests.platform_cast import API, Person, Shop


@pytest.fixture
def market(shop: Shop) -> Market:
    return open_market(shop)


def public(market: Market, path: str) -> Any:
    return market.shop.http.get(API + path)


def public_ids(market: Market, path: str = "/products") -> list[str]:
    return [entry["id"] for entry in public(market, path).json()["items"]]


def everywhere(market: Market, product_id: str) -> set[str]:
    """The public places in which a product is found."""
    places = {"/products", "/search?q=隐私", "/products?category=subjects", "/search?q=隐私&kind=course"}
    found = {place for place in places if product_id in public(market, place).text}
    if public(market, f"/products/{product_id}").status_code == 200:
        found.add("page")
    with market.shop.app.state.database.reading() as session:
        if queries.product(session, product_id) or queries.published_products(session, None):
            found.add("queries")
    return found


def test_a_product_is_nowhere_before_it_is_published_everywhere_then_and_nowhere_once_archived(market: Market) -> None:
    product_id = market.draft()
    assert everywhere(market, product_id) == set()
    market.step(market.creator, product_id, "submit")
    assert everywhere(market, product_id) == set()
    market.step(market.reviewer, product_id, "publish")
    assert len(everywhere(market, product_id)) == 6
    assert market.step(market.creator, product_id, "archive").json()["state"] == "archived"
    assert everywhere(market, product_id) == set()


def test_a_draft_of_the_next_version_shows_in_no_public_answer(market: Market) -> None:
    product_id = market.published()
    market.edit(product_id, title="未公开标题 secretword", price_minor=1)
    for place in ("/products", f"/products/{product_id}", "/search?q=隐私", "/search?q=secretword"):
        answer = public(market, place).text
        assert "secretword" not in answer
        assert "未公开标题" not in answer
    assert public_ids(market, "/search?q=secretword") == []
    assert public(market, f"/products/{product_id}").json()["price_minor"] == 19_900


def test_a_new_version_takes_the_place_of_the_old_one_in_lists_and_search(market: Market) -> None:
    product_id = market.published()
    market.edit(product_id, title="Homomorphic encryption", description="", language="en")
    market.release(product_id)
    page = public(market, f"/products/{product_id}").json()
    assert (page["version"], page["title"]) == (2, "Homomorphic encryption")
    assert public_ids(market, "/search?q=homomorphic") == [product_id]
    assert public_ids(market, "/search?q=联邦") == []


def test_buyers_keep_reading_the_version_that_they_bought_and_no_other(market: Market) -> None:
    product_id, buyer = market.published(), market.shop.register()
    bought = {(buyer.id, product_id, 1)}
    market.shop.app.state.is_entitled = lambda session, *what: what in bought
    market.edit(product_id, content="第二版")
    market.release(product_id)
    market.edit(product_id, content="third, not published")
    first = buyer.get(f"/products/{product_id}/versions/1")
    assert (first.status_code, first.json()["content"]) == (200, "第一课")
    assert buyer.get(f"/products/{product_id}/versions/2").status_code == 404
    assert buyer.get(f"/products/{product_id}/versions/3").status_code == 404
    assert market.shop.register().get(f"/products/{product_id}/versions/1").status_code == 404
    assert market.creator.get(f"/products/{product_id}/versions/2").json()["content"] == "第二版"
    market.step(market.creator, product_id, "archive")
    assert buyer.get(f"/products/{product_id}/versions/1").json() == first.json()


def test_a_draft_is_read_by_nobody_who_claims_to_have_bought_it(market: Market) -> None:
    product_id = market.draft()
    market.shop.app.state.is_entitled = lambda *_: True
    assert market.shop.register().get(f"/products/{product_id}/versions/1").status_code == 404


def test_no_public_answer_holds_the_content_that_buyers_pay_for(market: Market) -> None:
    product_id = market.published(content="paid-content-canary")
    for place in ("/products", f"/products/{product_id}", "/search?q=隐私"):
        assert "canary" not in public(market, place).text
    assert public_ids(market, "/search?q=canary") == []


def test_a_published_version_never_changes(market: Market) -> None:
    product_id = market.published()
    before = market.creator.get(f"/products/{product_id}/versions/1").json()
    for change in ({"title": "Another"}, {"content": "Other"}, {"price_minor": 5}):
        assert market.edit(product_id, **change).status_code == 200
    assert market.creator.get(f"/products/{product_id}/versions/1").json() == before
    assert market.creator.get(f"/products/{product_id}/manage").json()["draft"]["number"] == 2


def test_a_reviewer_returns_a_draft_with_a_note_that_its_creator_reads(market: Market) -> None:
    product_id = market.draft()
    assert market.reviewer.get(f"/products/{product_id}/manage").status_code == 404
    market.step(market.creator, product_id, "submit")
    assert [entry["id"] for entry in market.reviewer.get("/review-queue").json()["items"]] == [product_id]
    assert market.step(market.reviewer, product_id, "return", {"note": "请补充大纲"}).json()["state"] == "draft"
    assert market.reviewer.get("/review-queue").json()["items"] == []
    mine = market.creator.get(f"/products/{product_id}/manage").json()
    assert (mine["draft"]["review_note"], mine["state"]) == ("请补充大纲", "draft")


def test_steps_out_of_order_are_conflicts(market: Market) -> None:
    product_id = market.draft()
    operator = market.shop.register(None, "platform-operator", "reviewer")
    assert market.step(operator, product_id, "publish").status_code == 409
    market.step(market.creator, product_id, "submit")
    assert market.step(market.creator, product_id, "submit").status_code == 409
    assert market.edit(product_id, title="Changed under review").status_code == 409
    market.step(market.reviewer, product_id, "publish")
    assert market.step(operator, product_id, "return", {"note": "late"}).status_code == 409
    assert market.step(market.creator, product_id, "submit").status_code == 409
    market.step(market.creator, product_id, "archive")
    assert market.step(market.creator, product_id, "archive").status_code == 409
    assert market.edit(product_id, title="Back again").status_code == 409


def test_nobody_publishes_what_they_made(market: Market) -> None:
    both = market.shop.register(None, "creator", "reviewer")
    product_id = market.draft(both)
    market.step(both, product_id, "submit")
    assert market.step(both, product_id, "publish").status_code == 403
    assert market.step(market.reviewer, product_id, "publish").status_code == 200


def test_a_change_needs_the_etag_of_what_it_changes(market: Market) -> None:
    product_id = market.draft()
    stale = market.etag(market.creator, product_id)
    assert market.edit(product_id, title="Changed").status_code == 200
    for method, path, body in (
        ("PATCH", "", {"title": "Again"}),
        ("POST", "/submit", None),
        ("POST", "/archive", None),
        ("POST", "/slots", {"starts_at": "2031-01-01T10:00:00Z", "ends_at": "2031-01-01T11:00:00Z"}),
    ):
        target = f"/products/{product_id}{path}"
        assert market.creator.send(method, target, body).status_code == 428
        refused = market.creator.send(method, target, body, **{"If-Match": stale})
        assert refused.status_code == 412
        assert refused.headers["etag"] == market.etag(market.creator, product_id)


def test_a_reviewer_publishes_what_was_read_and_nothing_that_came_after(market: Market) -> None:
    product_id = market.draft()
    market.step(market.creator, product_id, "submit")
    read = market.etag(market.reviewer, product_id)
    market.step(market.reviewer, product_id, "return", {"note": "no"})
    market.edit(product_id, title="Bait and switch")
    market.step(market.creator, product_id, "submit")
    late = market.reviewer.post(f"/products/{product_id}/publish", **{"If-Match": read})
    assert late.status_code == 412


def tenant(market: Market, name: str, *roles: str) -> tuple[str, Person]:
    operator = market.shop.register(None, "platform-operator")
    tenant_id = operator.post("/tenants", {"name": name}).json()["id"]
    return tenant_id, market.shop.register(None, *roles, tenant_id=tenant_id)


def test_another_tenants_people_and_other_creators_meet_404_at_a_product_that_is_not_theirs(market: Market) -> None:
    _, creator = tenant(market, "Academy", "creator")
    _, stranger = tenant(market, "Rival", "creator", "reviewer", "tenant-operator")
    product_id = market.draft(creator)
    tag = {"If-Match": market.etag(creator, product_id)}
    others = [stranger, market.shop.register(None, "creator")]
    for step in ("draft", "review", "published"):
        for other in others:
            assert other.get(f"/products/{product_id}/manage").status_code == 404, step
            for path, body in (("submit", None), ("publish", None), ("return", {"note": "x"}), ("archive", None)):
                status = other.post(f"/products/{product_id}/{path}", body, **tag).status_code
                assert status in (403, 404), (step, path)
                assert status == 404 or other is not stranger, (step, path)
            assert other.send("PATCH", f"/products/{product_id}", {"title": "x"}, **tag).status_code == 404
            assert other.get(f"/products/{product_id}/versions/1").status_code == 404
        assert stranger.get("/review-queue").json()["items"] == []
        if step != "published":
            person, name = (creator, "submit") if step == "draft" else (market.reviewer, "publish")
            tag = {"If-Match": market.step(person, product_id, name).headers["etag"]}


def test_who_may_see_a_draft_may_not_for_that_reason_change_it(market: Market) -> None:
    tenant_id, creator = tenant(market, "Academy", "creator")
    product_id = market.draft(creator, kind="consulting")
    operator = market.shop.register(None, "tenant-operator", "creator", tenant_id=tenant_id)
    slot = {"starts_at": "2031-01-01T10:00:00Z", "ends_at": "2031-01-01T11:00:00Z"}
    tag = {"If-Match": market.etag(operator, product_id)}
    assert operator.send("PATCH", f"/products/{product_id}", {"title": "x"}, **tag).status_code == 403
    for path, body in (("submit", None), ("slots", slot)):
        assert operator.post(f"/products/{product_id}/{path}", body, **tag).status_code == 403
    market.step(creator, product_id, "submit")
    reviewer = market.shop.register(None, "reviewer", "creator")
    assert market.step(reviewer, product_id, "archive").status_code == 403
    assert creator.get(f"/products/{product_id}/manage").json()["state"] == "review"


def test_a_tenants_operator_archives_the_tenants_products(market: Market) -> None:
    tenant_id, creator = tenant(market, "Academy", "creator")
    operator = market.shop.register(None, "tenant-operator", tenant_id=tenant_id)
    product_id = market.draft(creator)
    assert operator.get(f"/products/{product_id}/manage").json()["tenant_id"] == tenant_id
    assert market.step(operator, product_id, "archive").status_code == 200


def test_lists_are_narrowed_sorted_and_paged(market: Market) -> None:
    wishes = [
        {"price_minor": 300, "kind": "course", "language": "en"},
        {"price_minor": 100, "kind": "e-book", "category": "programming"},
        {"price_minor": 200, "kind": "e-book", "currency": "USD"},
        {"price_minor": 200, "kind": "consulting"},
        {"price_minor": 200, "kind": "course"},
    ]
    ids = market.stock(wishes)
    assert public_ids(market) == ids[::-1]
    assert public_ids(market, "/products?kind=e-book") == [ids[2], ids[1]]
    assert public_ids(market, "/products?category=programming") == [ids[1]]
    assert set(public_ids(market, "/products?category=subjects")) == set(ids)
    assert public_ids(market, "/products?language=en") == [ids[0]]
    assert set(public_ids(market, "/products?currency=CNY&min_price_minor=150&max_price_minor=250")) == set(ids[3:])
    assert public(market, "/products?min_price_minor=150").status_code == 422
    assert public(market, "/products?sort=price").status_code == 422
    ties = sorted(ids[3:])
    for sort, order in (("price", [ids[1], *ties, ids[0]]), ("-price", [ids[0], *ties, ids[1]])):
        assert public_ids(market, f"/products?currency=CNY&sort={sort}") == order
        assert paged(market, f"/products?currency=CNY&sort={sort}&limit=1") == order
    assert paged(market, "/products?limit=2") == ids[::-1]


def paged(market: Market, path: str) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        body = public(market, path + cursor).json()
        found += [entry["id"] for entry in body["items"]]
        if not body["has_more"]:
            return found
        cursor = f"&cursor={body['next_cursor']}"


def test_text_with_nul_or_controls_and_unknown_fields_are_refused(market: Market) -> None:
    bad: tuple[dict[str, Any], ...] = (
        {"title": "a\x00b"},
        {"description": "a\x00b"},
        {"content": "a\x07b"},
        {"title": "\ud800"},
        {"price_minor": -1},
        {"price_minor": 2**40},
        {"currency": "yuan"},
        {"category": "nowhere"},
        {"state": "published"},
        {"kind": "podcast"},
    )
    for changes in bad:
        answer = market.shop.http.post(
            f"{API}/products", content=escaped(market.wish(**changes)), headers=market.creator.headers
        )
        assert answer.status_code == 422, changes
    for path in ("/products/a%00b", "/products?category=a%00", f"/products/x/versions/{2**40}"):
        assert market.creator.get(path).status_code == 422, path
    assert market.draft(description="zwei\nZeilen\tText")


def escaped(body: Any) -> bytes:
    import json

    return json.dumps(body).encode()


def test_categories_make_a_tree_and_a_new_name_is_found(market: Market) -> None:
    operator, product_id = market.shop.register(None, "platform-operator"), market.published()
    assert operator.post("/categories", {"slug": "privacy", "name_zh": "x", "name_en": "x"}).status_code == 409
    lost = {"slug": "lost", "parent_slug": "nowhere", "name_zh": "x", "name_en": "x"}
    assert operator.post("/categories", lost).status_code == 422
    assert public_ids(market, "/search?q=disciplines") == []
    read = public(market, "/categories/subjects")
    change = {"name_en": "Disciplines"}
    assert operator.send("PATCH", "/categories/subjects", change).status_code == 428
    renamed = operator.send("PATCH", "/categories/subjects", change, **{"If-Match": read.headers["etag"]})
    assert renamed.json()["name_en"] == "Disciplines"
    stale = operator.send("PATCH", "/categories/subjects", change, **{"If-Match": read.headers["etag"]})
    assert stale.status_code == 412
    assert public_ids(market, "/search?q=disciplines") == [product_id]
    assert [entry["slug"] for entry in public(market, "/categories?limit=2").json()["items"]] == [
        "privacy",
        "programming",
    ]


def test_an_erased_creator_leaves_what_was_bought_and_nothing_on_sale(market: Market) -> None:
    from platform_api.catalogue.feature import CATALOGUE

    sold, drafted = market.published(content="bought"), market.draft(title="never shown")
    market.edit(sold, title="an idea for later")
    buyer = market.shop.register()
    market.shop.app.state.is_entitled = lambda *_: True
    database = market.shop.app.state.database
    with database.writing() as session:
        exported = CATALOGUE.export(session, market.creator.id)["products"]
        assert {product["id"]: len(product["versions"]) for product in exported} == {sold: 2, drafted: 1}
        CATALOGUE.erase(session, market.creator.id, market.shop.clock())
    with database.reading() as session:
        left = str(CATALOGUE.export(session, market.creator.id))
    assert "never shown" not in left
    assert "an idea for later" not in left
    assert everywhere(market, sold) == set()
    assert buyer.get(f"/products/{sold}/versions/1").json()["content"] == "bought"
