"""What is on a list, what is not, and why."""

from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

from platform_api.joints import PaidHistories
from shared.artifact import ArtifactFiles, open_artifact
from shared.published import ranking_model
from shared.ranking import recommend
from tests.platform_cast import API, Shop
from tests.platform_histories import START, agree, publish
from tests.platform_models import CATALOGUE, NUM_ITEMS
from tests.platform_street import Street, anonymous, ids


@pytest.fixture
def street(shop: Shop) -> Street:
    made = Street(shop)
    made.publisher.make_live(1)
    return made


def test_a_client_that_fetches_the_model_ranks_as_the_platform_does(street: Street) -> None:
    bought = ["prd_03", "prd_20", "prd_07"]
    buyer = street.buyer(*bought)
    street.on_sale.withdrawn = {"prd_01", "prd_11"}
    base = f"{API}/models/recommender"
    files = ArtifactFiles(
        model=street.shop.http.get(f"{base}/versions/1/model").content,
        manifest=street.shop.http.get(f"{base}/live").content,
    )
    model = ranking_model(open_artifact(files, publisher_public_key=street.publisher.public_key))
    history = np.array([CATALOGUE.position(product) for product in bought], dtype=np.int32)
    for k in (1, 4, 7, 12):
        alone = recommend(model, CATALOGUE, history, k, exclude=[1, 11])
        answer = buyer.get(f"/recommendations?k={k}")
        assert ids(answer) == [CATALOGUE.items[line.item].id for line in alone]
        for item, line in zip(answer.json()["items"], alone, strict=True):
            because = None if line.because_of is None else CATALOGUE.items[line.because_of].id
            assert (item["reason"], item["because_of"]) == (line.reason, because)
    assert answer.json()["personalised"] is True
    assert answer.json()["model"]["version"] == 1


def test_what_is_owned_or_not_on_sale_never_appears(street: Street) -> None:
    buyer = street.buyer("prd_03", "prd_07", "prd_23")
    street.histories.given[buyer.id] = {"prd_05"}
    for query in ("?k=100", "?k=100&diversity=0.5", "?k=100&category=maths"):
        street.on_sale.withdrawn = {"prd_02", "prd_22"}
        shown = ids(buyer.get(f"/recommendations{query}"))
        assert {"prd_03", "prd_07", "prd_23", "prd_05", "prd_02", "prd_22"}.isdisjoint(shown)
        assert len(shown) == len(set(shown))
        if "category" not in query:
            assert len(shown) == NUM_ITEMS - 6
        street.on_sale.withdrawn = set()
        assert {"prd_02", "prd_22"} <= set(ids(buyer.get(f"/recommendations{query}")))


def test_a_category_narrows_every_part_of_the_list(street: Street) -> None:
    buyer = street.buyer("prd_03")
    street.on_sale.add("prd_art_new", "art")
    street.on_sale.add("prd_maths_new", "maths")
    for person in (buyer, street.buyer(consent=False)):
        answer = person.get("/recommendations?k=100&category=art")
        assert {item["category"] for item in answer.json()["items"]} == {"art"}
        assert "prd_art_new" in ids(answer)
    assert ids(buyer.get("/recommendations?category=none")) == []


def test_a_newcomer_gets_popular_then_new_items_and_always_as_many_as_asked(street: Street) -> None:
    street.on_sale.add("prd_later")
    newcomer = street.buyer()
    for k in (1, 10, 20, 25, 40):
        answer = newcomer.get(f"/recommendations?k={k}")
        shown = ids(answer)
        assert len(shown) == len(set(shown)) == min(k, NUM_ITEMS + 1)
    reasons = [item["reason"] for item in answer.json()["items"]]
    heard_of = int(np.count_nonzero(np.linspace(18, -5.0, NUM_ITEMS) > 0))
    assert reasons == ["popular"] * heard_of + ["new"] * (NUM_ITEMS + 1 - heard_of)
    assert shown[:heard_of] == [f"prd_{number:02}" for number in range(heard_of)]
    assert shown[heard_of] == "prd_later"
    assert "diversity" not in answer.json()


def test_without_a_live_model_the_newest_are_shown(shop: Shop) -> None:
    street = Street(shop)
    buyer = street.buyer("prd_22")
    answer = buyer.get("/recommendations?k=3")
    assert ids(answer) == ["prd_23", "prd_21", "prd_20"]
    assert answer.json()["model"] is None
    assert {item["reason"] for item in answer.json()["items"]} == {"new"}


def test_each_item_says_why_in_the_language_of_its_reader(street: Street) -> None:
    buyer = street.buyer("prd_03", "prd_07")
    items = buyer.get("/recommendations?k=24").json()["items"]
    assert {item["reason"] for item in items} >= {"because_of_item", "similar_text", "new"}
    spoken = next(item for item in items if item["reason"] == "because_of_item")
    assert spoken["because_of"] in ("prd_03", "prd_07")
    assert street.on_sale.products[spoken["because_of"]].title in spoken["sentence"]
    assert "学过" in spoken["sentence"]
    buyer.send("PATCH", "/me", {"language": "en"})
    assert "people who had" in buyer.get("/recommendations").json()["items"][0]["sentence"]
    for header, word in (("en-GB,en;q=0.9", "many people have it"), ("fr", "很多人在学"), ("zh-TW", "很多人在学")):
        shown = street.shop.http.get(f"{API}/recommendations", headers={"Accept-Language": header})
        assert shown.json()["items"][0]["sentence"] == word


def test_without_consent_or_with_the_switch_off_everybody_gets_one_list(street: Street) -> None:
    buyer, refuser = street.buyer("prd_00", "prd_07"), street.buyer("prd_00", "prd_12", consent=False)
    off = street.buyer("prd_05")
    assert off.send("PUT", "/me/recommendation-settings", {"personalised": False}).json()["effect"] == "same-for-all"
    everybody = anonymous(street)
    assert refuser.get("/recommendations").json() == off.get("/recommendations").json() == everybody.json()
    # Nothing of the person was used, so what one of them owns may be on it.
    assert "prd_00" in ids(everybody)
    assert everybody.json()["personalised"] is False
    assert ids(buyer.get("/recommendations")) != ids(everybody)
    program = street.shop.machine("models:publish")
    assert program.get("/recommendations").json() == everybody.json()
    # Both switches count at the next request, in both directions.
    agree(buyer, "service-personalisation", given=False)
    assert buyer.get("/recommendations").json() == everybody.json()
    agree(refuser, "service-personalisation")
    off.send("PUT", "/me/recommendation-settings", {"personalised": True})
    for person in (refuser, off):
        assert person.get("/recommendations").json()["personalised"] is True
    publish(street.shop)
    assert refuser.get("/recommendations").json() == everybody.json()


def test_the_same_list_is_304(street: Street) -> None:
    first = anonymous(street)
    again = street.shop.http.get(f"{API}/recommendations", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert "Accept-Language" in first.headers["vary"]


def test_every_stage_of_a_list_is_explained(street: Street) -> None:
    buyer = street.buyer("prd_03", "prd_07", "prd_08", "prd_unknown")
    street.histories.given[buyer.id] = {"prd_05"}
    street.histories.rated[buyer.id] = [("prd_08", 1, START)]
    street.on_sale.withdrawn = {"prd_02", "prd_03"}
    told = buyer.get("/recommendations/explain?k=20&diversity=0").json()
    assert told["history"] == {
        "purchases": 4,
        "left_out_for_low_rating": 1,
        "left_out_for_other_catalogue": 1,
        "folded_in": 2,
    }
    stages = told["stages"]
    assert (stages["candidates"], stages["after_owned"], stages["after_availability"]) == (24, 20, 19)
    assert stages["after_diversity"] + stages["new"] == len(told["items"]) == 19
    assert (told["consent"], told["switched_on"], told["personalised"]) == (True, True, True)
    assert told["model"]["version"] == 1
    assert told["items"] == buyer.get("/recommendations?k=20").json()["items"]
    stranger = street.shop.http.get(f"{API}/recommendations/explain").json()
    assert stranger["history"]["purchases"] == 0
    assert (stranger["consent"], stranger["personalised"]) == (False, False)


def test_a_low_rating_takes_an_items_word_away_but_not_that_it_is_owned(street: Street) -> None:
    buyer, other = street.buyer("prd_03", "prd_07"), street.buyer("prd_03")
    street.histories.rated[buyer.id] = [("prd_07", 2, START), ("prd_03", 3, START)]
    told = buyer.get("/recommendations?k=20").json()["items"]
    assert {item["because_of"] for item in told} <= {"prd_03", None}
    assert "prd_07" not in {item["product_id"] for item in told}
    told_other = [name for name in ids(other.get("/recommendations?k=20")) if name != "prd_07"]
    assert [item["product_id"] for item in told][:10] == told_other[:10]


def test_what_cannot_be_asked_for_is_refused(street: Street) -> None:
    for query in ("k=0", "k=101", "k=x", "diversity=1.1", "diversity=-0.1", "diversity=nan"):
        assert anonymous(street, f"?{query}").status_code == 422, query


def test_the_switch_is_ones_own(street: Street) -> None:
    buyer = street.buyer()
    assert buyer.get("/me/recommendation-settings").json()["effect"] == "personal"
    for _ in range(2):
        assert buyer.send("PUT", "/me/recommendation-settings", {"personalised": False}).status_code == 200
    assert buyer.get("/me/recommendation-settings").json()["personalised"] is False
    assert street.buyer().get("/me/recommendation-settings").json()["personalised"] is True
    assert street.shop.machine("models:publish").get("/me/recommendation-settings").status_code == 403


def test_one_list_reads_its_readers_claims_once(shop: Shop) -> None:
    street = Street(shop)
    shop.app.state.histories = PaidHistories()
    buyer, asked = street.buyer(), []

    def watch(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    engine = shop.app.state.database.engine
    event.listen(engine, "before_cursor_execute", watch)
    assert buyer.get("/recommendations").json()["personalised"] is True
    event.remove(engine, "before_cursor_execute", watch)
    assert sum("FROM entitlements" in statement for statement in asked) == 1
