"""A shop in which everything exists once and belongs to somebody: two tenants, their people, and what they made."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from platform_api.sandbox.provider import Sandbox
from platform_api.settings import Settings
from platform_api.snapshots.service import PublishedSnapshots
from tests import catalogue_cast, money_cast
from tests.platform_cast import Hand, Person, Shop, opened_shop
from tests.platform_histories import agree, publish
from tests.platform_models import NUM_ITEMS, publisher_of

# Scopes by roles, stated a second time: a change of the service's own table must be meant.
SCOPES: dict[str, set[str]] = {
    "learner": set(),
    "creator": {"catalog:write"},
    "reviewer": set(),
    "tenant-operator": {"fl:join", "catalog:write"},
    "platform-operator": {"fl:join", "catalog:write", "models:publish"},
    "researcher": set(),
}
KINDS = ("course", "consulting")


@dataclass
class Tenant:
    """A partner's people and programs, and what is the partner's. things: ids by the names of path parameters."""

    id: str
    people: dict[str, Person]
    programs: dict[str, Person]
    things: dict[str, str] = field(default_factory=dict)
    draft: str = ""
    in_review: str = ""

    @property
    def callers(self) -> dict[str, Person]:
        return {**self.people, **self.programs}


@dataclass
class Town:
    """The shop, two tenants, and whoever belongs to none. snapshot: digest of the published one."""

    shop: Shop
    catalogue: catalogue_cast.Market
    money: money_cast.Market
    tenants: tuple[Tenant, Tenant]
    others: dict[str, Person]
    snapshot: str = ""

    @property
    def callers(self) -> dict[str, Person | None]:
        """Everyone who may call, nobody included, by a name."""
        ours = self.tenants[0].callers
        return {
            "nobody": None,
            **{f"tenant's {name}": person for name, person in ours.items()},
            **self.others,
        }

    def let_in(self, rule: dict[str, Any]) -> Person:
        """Somebody of the first tenant or of none whom a declared rule lets in."""
        everyone = {**self.others, **{f"tenant's {name}": person for name, person in self.tenants[0].callers.items()}}
        return next(person for name, person in everyone.items() if expected(rule, who(name)) == 200)

    def log_in_again(self, person: Person) -> None:
        """After a log-out: the same person with new tokens, in place."""
        fresh = self.shop.log_in(person.email)
        person.token, person.refresh_token = fresh.token, fresh.refresh_token


@dataclass(frozen=True)
class Who:
    """A caller as the rules see one."""

    roles: frozenset[str]
    scopes: frozenset[str]
    machine: bool = False


def who(name: str) -> Who:
    """A caller by the name in `callers`; of a tenant where the name begins with its owner."""
    role = re.sub("^(tenant's|other) ", "", name)
    if "program" not in role and role != "publisher":
        return Who(frozenset({role, "learner"}), frozenset(SCOPES[role]))
    scope = "models:publish" if role == "publisher" else role.removeprefix("program with ")
    return Who(frozenset({"tenant-operator" if name != role else "researcher"}), frozenset({scope}), machine=True)


def expected(rule: dict[str, Any], caller: Who | None) -> int:
    """What a declared rule (`x-access`) should give: 401, 403, or 200 for whatever else comes."""
    if rule.get("public"):
        return 200
    if caller is None:
        return 401
    wrong_kind = rule["people_only" if caller.machine else "machines_only"]
    roles = set(rule["roles"]) - (set() if caller.machine else set(rule["only_as_machine"]))
    fits = caller.roles & roles and set(rule["scopes"]) <= caller.scopes
    return 200 if fits and not wrong_kind else 403


@contextmanager
def opened_town(settings: Settings) -> Iterator[Town]:
    """Everything through the doors that people use, except for products, which are stocked at once."""
    clock = Hand()
    sandbox = Sandbox(webhook_secret=money_cast.SECRET, api_key=money_cast.KEY, clock=clock)
    provider = money_cast.provider_of(sandbox)
    with opened_shop(settings, clock, provider=provider) as shop:
        yield _settled(shop, sandbox)
    provider.close()
    sandbox.books.close()


def _settled(shop: Shop, sandbox: Sandbox) -> Town:
    market = catalogue_cast.open_market(shop)
    money = money_cast.Market(shop, money_cast.Rack(), sandbox)
    publish(shop)
    operator = shop.register(None, "platform-operator")
    tenants = (_tenant(shop, operator, "A"), _tenant(shop, operator, "B"))
    town = Town(shop, market, money, tenants, _without_tenant(shop, operator))
    for tenant in tenants:
        _furnish(town, tenant)
    _models(town)
    return town


def _tenant(shop: Shop, operator: Person, name: str) -> Tenant:
    tenant_id = operator.post("/tenants", {"name": f"Academy {name}"}).json()["id"]
    roles = ("learner", "creator", "reviewer", "tenant-operator")
    return Tenant(
        id=tenant_id,
        people={role: shop.register(None, role, tenant_id=tenant_id) for role in roles},
        programs={
            f"program with {scope}": shop.machine(scope, tenant_id=tenant_id)
            for scope in sorted(SCOPES["tenant-operator"])
        },
    )


def _without_tenant(shop: Shop, operator: Person) -> dict[str, Person]:
    people = {role: shop.register(None, role) for role in ("learner", "creator", "reviewer", "researcher")}
    programs = {"program with models:publish": shop.machine("models:publish")}
    return {"platform-operator": operator, **people, **programs}


def _furnish(town: Town, tenant: Tenant) -> None:
    """A draft, a product in review, two on sale, one with times; an order with a refund, and a review."""
    creator, reviewer, buyer = (tenant.people[role] for role in ("creator", "reviewer", "learner"))
    agree(buyer, "service-personalisation", "training")
    market, mark = town.catalogue, f"canary of {tenant.id}"
    tenant.draft = market.draft(creator, title=f"draft, {mark}", content=mark)
    tenant.in_review = market.draft(creator, title=f"in review, {mark}", content=mark)
    assert market.step(creator, tenant.in_review, "submit").status_code == 200
    course, talk = (market.draft(creator, title=f"{kind} on sale", content=mark, kind=kind) for kind in KINDS)
    for product_id in (course, talk):
        assert market.step(creator, product_id, "submit").status_code == 200
        assert market.step(reviewer, product_id, "publish").status_code == 200
    slots = [_slot(market, creator, talk, day) for day in (2, 3)]
    order = town.money.order(buyer, course).json()
    assert town.money.card(order) == 200
    town.money.deliver()
    assert town.money.refund(town.others["platform-operator"], order, 100).status_code == 201
    wish = {"rating": 4, "text": mark, "show_name": False}
    assert buyer.send("PUT", f"/products/{course}/reviews/mine", wish).status_code == 201
    found = reviewer.get(f"/products/{course}/reviews/moderation").json()["items"]
    tenant.things.update(
        product_id=course, slot_id=slots[0], order_id=order["id"], line_id=order["lines"][0]["id"],
        review_id=found[0]["id"], user_id=creator.id, client_id=tenant.programs["program with fl:join"].id,
        category="privacy", slug="privacy", tenant_id=tenant.id, talk_id=talk,
    )  # fmt: skip


def _slot(market: catalogue_cast.Market, creator: Person, product_id: str, day: int) -> str:
    wish = {"starts_at": f"2030-02-0{day}T08:00:00Z", "ends_at": f"2030-02-0{day}T09:00:00Z"}
    made = creator.post(f"/products/{product_id}/slots", wish, **{"If-Match": market.etag(creator, product_id)})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def _models(town: Town) -> None:
    """A live model of a published snapshot, which lists as many products as the model knows."""
    town.catalogue.stock([{"title": f"课程 {number}"} for number in range(NUM_ITEMS - 2 * len(KINDS))])
    publisher = publisher_of(town.shop)
    snapshots = town.shop.app.state.snapshots = PublishedSnapshots(town.shop.settings)
    town.snapshot = publisher.operator.post("/snapshots").json()["digest"]
    with town.shop.app.state.database.reading() as session:
        snapshot = snapshots.catalogue(session, town.snapshot)
    publisher.make_live(1, catalogue=snapshot)
    town.others["publisher"] = publisher.program
    town.tenants[0].things.update(publisher_id=publisher.id, version="1", number="1", name="recommender")
    town.tenants[0].things.update(snapshot=town.snapshot)
