"""Consent by purpose, the export of everything, and erasure."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from platform_api.app import FEATURES
from platform_api.columns import metadata
from platform_api.consents import service
from platform_api.consents.purposes import PURPOSES
from platform_api.features import Feature
from platform_api.idempotency import Once
from platform_api.sandbox.provider import Sandbox
from tests import catalogue_cast, money_cast
from tests.platform_cast import API, PASSWORD, Person, Shop
from tests.platform_histories import POLICY, agree, publish
from tests.platform_models import publisher_of


def states(person: Person) -> dict[str, str]:
    return {entry["purpose"]: entry["state"] for entry in person.get("/me/consents").json()["consents"]}


def test_nothing_is_agreed_to_before_there_is_a_policy(shop: Shop) -> None:
    person = shop.register()
    assert person.get("/me/consents").json()["policy_version"] is None
    assert set(states(person).values()) == {"never-given"}
    wish = {"purposes": {"training": True}, "policy_version": 1}
    assert person.send("PUT", "/me/consents", wish).status_code == 409
    assert shop.http.get(f"{API}/policies/current").status_code == 404


def test_every_yes_and_no_is_a_receipt_and_the_last_one_counts(shop: Shop) -> None:
    publish(shop)
    person = shop.register()
    agree(person, "training", "marketing")
    agree(person, "training")  # nothing changes, so nothing is written
    agree(person, "training", given=False)
    assert states(person) == {
        "service": "never-given",
        "service-personalisation": "never-given",
        "training": "withdrawn",
        "marketing": "given",
    }
    receipts = person.get("/me/consents/receipts?limit=2").json()
    rest = person.get(f"/me/consents/receipts?limit=2&cursor={receipts['next_cursor']}").json()
    seen = [(r["purpose"], r["given"], r["policy_version"]) for r in receipts["items"] + rest["items"]]
    assert seen == [("marketing", True, 1), ("training", True, 1), ("training", False, 1)]
    assert states(shop.register()) == dict.fromkeys(PURPOSES, "never-given")


def test_a_new_policy_stops_training_and_personalisation_until_it_is_agreed_to(shop: Shop) -> None:
    publish(shop)
    person = shop.register()
    agree(person, *PURPOSES)
    assert publish(shop) == 2
    assert states(person) == {
        "service": "given",
        "service-personalisation": "stale",
        "training": "stale",
        "marketing": "given",
    }
    with shop.app.state.database.reading() as session:
        for purpose, expected in zip(PURPOSES, (True, False, False, True), strict=True):
            assert service.has_consent(session, person.id, purpose) is expected
    old = {"purposes": {"training": True}, "policy_version": 1}
    assert person.send("PUT", "/me/consents", old).status_code == 409
    # A no needs no reading of the newest text.
    agree(person, "service-personalisation", given=False)
    agree(person, "training", version=2)
    assert states(person)["training"] == "given"
    assert states(person)["service-personalisation"] == "withdrawn"


def test_only_known_purposes_are_agreed_to(shop: Shop) -> None:
    publish(shop)
    person = shop.register()
    # Nothing that merely resembles a yes is one.
    for wish in ({}, {"gossip": True}, *({"training": like} for like in ("perhaps", "yes", "true", 1, 1.0, None))):
        body = {"purposes": wish, "policy_version": 1}
        assert person.send("PUT", "/me/consents", body).status_code == 422
    for version in (True, "1", 1.0, 0, 2**31):
        body = {"purposes": {"training": True}, "policy_version": version}
        assert person.send("PUT", "/me/consents", body).status_code == 422
    assert states(person)["training"] == "never-given"


def test_policies_are_public_and_published_by_operators(shop: Shop) -> None:
    publish(shop)
    publish(shop)
    assert shop.http.get(f"{API}/policies/current").json()["version"] == 2
    first = shop.http.get(f"{API}/policies?limit=1").json()
    second = shop.http.get(f"{API}/policies?limit=1&cursor={first['next_cursor']}").json()
    assert [page["items"][0]["version"] for page in (first, second)] == [2, 1]
    assert shop.register().post("/policies", POLICY).status_code == 403
    assert shop.register(None, "platform-operator").post("/policies", {**POLICY, "text_en": "a\x00"}).status_code == 422


def test_receipts_and_policies_cannot_be_changed_in_the_database(shop: Shop) -> None:
    publish(shop)
    agree(shop.register(), "training")
    for change in (
        "UPDATE consent_receipts SET given = NOT given",
        "DELETE FROM consent_receipts",
        "UPDATE policies SET text_en = ''",
        "DELETE FROM policies",
    ):
        with pytest.raises(DatabaseError, match="append-only"), shop.app.state.database.writing() as session:
            session.execute(text(change))


# What is done, for each feature that keeps something of a person, before that person is erased. Each makes the feature
# keep something, with CANARY wherever free text is taken. A feature with personal tables must be here.
CANARY = "金丝雀canary"


@dataclass
class Life:
    """A person who leaves something everywhere, and the places where they do."""

    shop: Shop
    person: Person

    @cached_property
    def catalogue(self) -> catalogue_cast.Market:
        return catalogue_cast.open_market(self.shop)

    @cached_property
    def money(self) -> money_cast.Market:
        sandbox = Sandbox(webhook_secret=money_cast.SECRET, api_key=money_cast.KEY, clock=self.shop.clock)
        self.shop.app.state.provider = money_cast.provider_of(sandbox)
        return money_cast.Market(self.shop, money_cast.Rack(), sandbox)

    @cached_property
    def bought(self) -> dict[str, Any]:
        """A paid order of two lines, one of which was refunded; another order waits to be paid."""
        ids = self.catalogue.stock([{}, {}, {}])
        order = self.money.buy(self.person, *ids[:2])
        operator = self.shop.register(None, "platform-operator")
        assert self.money.refund(operator, order, line=1).status_code == 201
        assert self.money.order(self.person, ids[2]).status_code == 201
        return order


def _use_account(life: Life) -> None:
    assert life.person.send("PATCH", "/me", {"display_name": CANARY}).status_code == 200


def _use_catalogue(life: Life) -> None:
    life.shop.give_roles(life.person.id, "creator")
    life.catalogue.draft(life.person, title=CANARY, content=CANARY)
    catalogue_cast.stock(life.shop, life.person.id, life.catalogue.reviewer.id, [life.catalogue.wish(title="kept")])


def _use_reviews(life: Life) -> None:
    product = life.bought["lines"][0]["product_id"]
    wish = {"rating": 4, "text": CANARY, "show_name": True}
    assert life.person.send("PUT", f"/products/{product}/reviews/mine", wish).status_code == 201


def _use_models(life: Life) -> None:
    publisher = publisher_of(life.shop)
    life.shop.give_roles(life.person.id, "platform-operator")
    publisher.operator = life.person
    publisher.make_live(1)


def _use_consents(life: Life) -> None:
    publish(life.shop)
    agree(life.person, *PURPOSES)


def _use_recommendations(life: Life) -> None:
    assert life.person.send("PUT", "/me/recommendation-settings", {"personalised": False}).status_code == 200


USES: dict[str, Callable[[Life], Any]] = {
    "accounts": _use_account,
    "catalogue": _use_catalogue,
    "orders": lambda life: life.bought,
    "payments": lambda life: life.bought,
    "reviews": _use_reviews,
    "models": _use_models,
    "consents": _use_consents,
    "recommendations": _use_recommendations,
}

# Tables in which an erased person's number, and nothing else of them, stays on purpose: the row that the number is the
# key of, and what they had put on sale, which those who bought it go on reading. Orders, whose records the law on
# books asks to keep, name nobody at all afterwards.
KEPT = {"users", "products"}


def _everything(shop: Shop) -> dict[str, list[dict[str, Any]]]:
    with shop.app.state.database.reading() as session:
        return {
            table.name: [dict(row._mapping) for row in session.execute(table.select().order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }


def _where(tables: dict[str, list[dict[str, Any]]], needle: str) -> set[str]:
    return {name for name, rows in tables.items() if needle in str(rows)}


def test_every_feature_that_keeps_something_of_a_person_is_tried_before_erasing() -> None:
    assert {feature.name for feature in FEATURES if feature.personal_tables} <= set(USES)


def test_export_has_every_feature_and_erasure_leaves_no_trace_in_any_table(shop: Shop) -> None:
    person = shop.register("canary-person@example.org")
    bystander = shop.register("bystander@example.org")
    life = Life(shop, person)
    for use in USES.values():
        use(life)
    agree(bystander, "training")
    export = person.get("/me/export")
    assert export.headers["content-disposition"].startswith("attachment")
    body = export.json()
    assert set(body["features"]) == {feature.name for feature in FEATURES}
    for name in USES:
        assert body["features"][name], f"{name} exports nothing of what it keeps"
    assert "canary-person@example.org" in export.text
    assert CANARY in json.dumps(body, ensure_ascii=False)
    assert "bystander" not in export.text
    assert "argon2" not in export.text
    before = _everything(shop)
    needles = ("canary-person", CANARY, person.id)
    assert all(_where(before, needle) for needle in needles)

    assert person.post("/me/erase", {"password": "not this one"}).status_code == 401
    assert _where(_everything(shop), CANARY) == _where(before, CANARY)
    erased = person.post("/me/erase", {"password": PASSWORD})
    assert erased.status_code == 200, erased.text
    assert set(erased.json()["features"]) == {feature.name for feature in FEATURES}

    after = _everything(shop)
    assert _where(after, "canary-person") == _where(after, CANARY) == set()
    assert _where(after, person.id) == KEPT
    for name in ("order_lines", "refunds", "journals", "postings"):
        assert after[name] == before[name] != [], f"{name} is a record of money"
    assert [{**row, "user_id": None} for row in before["orders"]] == [
        {**row, "expires_at": old["expires_at"]} for row, old in zip(after["orders"], before["orders"], strict=True)
    ]
    assert after["entitlements"] == []
    assert person.get("/me").status_code == 401
    form = {"grant_type": "refresh_token", "refresh_token": person.refresh_token}
    assert shop.http.post(f"{API}/tokens", data=form).status_code == 401
    again = {"grant_type": "password", "username": person.email, "password": PASSWORD}
    assert shop.http.post(f"{API}/tokens", data=again).status_code == 401
    # Proof of what was agreed to stays, together and under another name; other people's is untouched.
    receipts = [row for row in after["consent_receipts"] if row["user_id"].startswith("gone_")]
    assert len(receipts) == len(PURPOSES)
    assert len({row["user_id"] for row in receipts}) == 1
    assert states(bystander)["training"] == "given"


def test_erasure_is_everything_or_nothing(shop: Shop) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("planted")

    person = shop.register("whole@example.org")
    publish(shop)
    agree(person, "training")
    kept = shop.app.state.features
    # The features are erased in reverse, so this one comes when others have been.
    shop.app.state.features = (kept[0], Feature(name="broken", routers=(), erase=broken), *kept[1:])
    assert person.post("/me/erase", {"password": PASSWORD}).status_code == 500
    shop.app.state.features = kept
    assert states(person)["training"] == "given"
    assert person.post("/me/erase", {"password": PASSWORD}).status_code == 200


def test_answers_kept_for_replay_are_erased_too(shop: Shop) -> None:
    person, other = shop.register(), shop.register()
    for caller in (person, other):
        once = Once(shop.app.state.database, caller.id, "k", "digest", shop.clock.now)
        once.run(lambda session: (201, {"said": CANARY}))
    assert person.post("/me/erase", {"password": PASSWORD}).status_code == 200
    assert [kept["caller_id"] for kept in _everything(shop)["idempotent_requests"]] == [other.id]
