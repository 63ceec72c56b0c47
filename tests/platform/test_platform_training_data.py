"""Histories that a tenant's own federation client may fetch."""

import base64
import csv
import io
from pathlib import Path

import pytest

from client.connectors import open_source
from tests.platform_cast import PASSWORD, Person, Shop
from tests.platform_histories import FixedHistories, agree, publish
from tests.platform_models import CATALOGUE, FixedSnapshots

ADDRESS = f"/training/interactions?snapshot={CATALOGUE.digest}"


class Town:
    """Two tenants with two learners each, who all agree to training."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        publish(shop)
        self.histories = shop.app.state.histories = FixedHistories()
        shop.app.state.snapshots = FixedSnapshots()
        operator = shop.register(None, "platform-operator")
        self.tenants = [operator.post("/tenants", {"name": name}).json()["id"] for name in ("north", "south")]
        self.learners = [[self._learner(tenant) for _ in range(2)] for tenant in self.tenants]
        self.programs = [shop.machine("fl:join", tenant_id=tenant) for tenant in self.tenants]
        self.products = iter(f"prd_{number:02}" for number in range(24))
        for learner in (*self.learners[0], *self.learners[1]):
            self.histories.buy(learner.id, next(self.products), next(self.products))
            agree(learner, "training")

    def _learner(self, tenant_id: str) -> Person:
        person = self.shop.register()
        self.shop.give_roles(person.id, tenant_id=tenant_id)
        return person

    def items(self, learner: Person) -> set[str]:
        return {product for product, _ in self.histories.bought[learner.id]}

    def fetched(self, tenant: int, limit: int = 100) -> list[dict[str, str]]:
        whole, address = "", f"{ADDRESS}&limit={limit}"
        while address:
            answer = self.programs[tenant].get(address)
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"].startswith("text/csv")
            whole += answer.text
            address = answer.headers.get("link", "").partition(">")[0].removeprefix("</api/v1")
        return list(csv.DictReader(io.StringIO(whole)))


@pytest.fixture
def town(shop: Shop) -> Town:
    return Town(shop)


@pytest.mark.parametrize("limit", [1, 100])
def test_a_tenants_program_gets_its_own_learners_and_no_others(town: Town, limit: int) -> None:
    for tenant in (0, 1):
        rows = town.fetched(tenant, limit)
        own = town.items(town.learners[tenant][0]) | town.items(town.learners[tenant][1])
        assert {row["item"] for row in rows} == own
        assert len({row["user"] for row in rows}) == 2


def test_who_withdraws_or_has_not_agreed_to_the_newest_policy_is_left_out(town: Town) -> None:
    first, second = town.learners[0]
    agree(first, "training", given=False)
    assert {row["item"] for row in town.fetched(0)} == town.items(second)
    publish(town.shop)
    assert town.fetched(0) == []
    agree(first, "training", version=2)
    agree(second, "marketing", "service-personalisation", version=2)
    assert {row["item"] for row in town.fetched(0)} == town.items(first)
    assert first.post("/me/erase", {"password": PASSWORD}).status_code == 200
    assert town.fetched(0) == []


def test_names_are_pseudonyms_by_tenant_and_cursors_tell_none(town: Town) -> None:
    mover = town.learners[0][0]
    before = {row["user"] for row in town.fetched(0) if row["item"] in town.items(mover)}
    assert before == {row["user"] for row in town.fetched(0) if row["item"] in town.items(mover)}
    town.shop.give_roles(mover.id, tenant_id=town.tenants[1])
    after = {row["user"] for row in town.fetched(1) if row["item"] in town.items(mover)}
    assert len(before) == len(after) == 1
    assert before.isdisjoint(after)
    page = town.programs[1].get(f"{ADDRESS}&limit=1")
    cursor = page.headers["link"].split("cursor=")[1].split(">")[0]
    plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for learner in (*town.learners[0], *town.learners[1]):
        assert learner.id not in page.text
        assert learner.id.encode() not in plain
    assert b"[" in plain  # it is the cursor that was looked into


def test_times_are_days_and_products_outside_the_snapshot_are_left_out(town: Town) -> None:
    learner = town.learners[0][0]
    town.histories.buy(learner.id, "prd_added_later")
    rows = town.fetched(0)
    assert {row["timestamp"] for row in rows} == {"2029-06-01", "2029-06-02"}
    assert "prd_added_later" not in {row["item"] for row in rows}


def test_the_clients_import_reads_it(town: Town, tmp_path: Path) -> None:
    path = tmp_path / "histories.csv"
    path.write_text(town.programs[0].get(ADDRESS).text, encoding="utf-8")
    with open_source(str(path)) as source:
        assert source.columns == ("user", "item", "timestamp")
        assert len(list(source.rows)) == 4


def test_only_programs_of_a_tenant_with_the_scope_may_ask(town: Town) -> None:
    shop = town.shop
    for caller in (
        shop.machine("catalog:write", tenant_id=town.tenants[0]),
        shop.machine("models:publish"),
        shop.register(None, "tenant-operator", tenant_id=town.tenants[0]),
        shop.register(None, "platform-operator"),
        town.learners[0][0],
    ):
        assert caller.get(ADDRESS).status_code == 403
    assert town.programs[0].get(f"/training/interactions?snapshot={'0' * 64}").status_code == 404
    assert town.programs[0].get("/training/interactions").status_code == 422
    first = town.programs[0].get(f"{ADDRESS}&limit=1").headers["link"].split("cursor=")[1].split(">")[0]
    assert town.programs[0].get(f"{ADDRESS}&cursor={first[:-2]}AA").status_code == 400
