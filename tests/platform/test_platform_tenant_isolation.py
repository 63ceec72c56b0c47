"""What belongs to a tenant does not exist for another one: on every route, with real ids and well-formed requests."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.platform_cast import API, Person
from tests.platform_town import Tenant, Town, expected, opened_town, who

# Ids in a path that belong to nobody in particular, and those of which only the platform's operators have business.
SHARED = {"slug", "name", "number", "version", "publisher_id", "client_id", "user_id"}
# Well-formed requests for every route with an id that belongs to somebody: a new route without one fails here.
BODIES: dict[tuple[str, str], Any] = {
    ("patch", "/products/{product_id}"): {"title": "taken over"},
    ("post", "/products/{product_id}/submit"): None,
    ("post", "/products/{product_id}/publish"): None,
    ("post", "/products/{product_id}/return"): {"note": "no"},
    ("post", "/products/{product_id}/archive"): None,
    ("post", "/products/{product_id}/slots"): {
        "starts_at": "2030-05-01T08:00:00Z",
        "ends_at": "2030-05-01T09:00:00Z",
    },
    ("delete", "/products/{product_id}/slots/{slot_id}"): None,
    ("put", "/products/{product_id}/reviews/mine"): {"rating": 1, "text": "", "show_name": False},
    ("delete", "/products/{product_id}/reviews/mine"): None,
    ("post", "/orders/{order_id}/complete"): None,
    ("post", "/orders/{order_id}/cancel"): None,
    ("post", "/orders/{order_id}/refunds"): {"line_id": "{line_id}"},
    ("post", "/reviews/{review_id}/hide"): {"reason": "spam"},
    ("post", "/reviews/{review_id}/show"): None,
}
# That something on sale was not bought is no secret.
OTHERWISE = {("put", "/products/{product_id}/reviews/mine"): 403}


@pytest.fixture
def town(settings_of: Any) -> Iterator[Town]:
    with opened_town(settings_of(access_token_seconds=86_400)) as opened:
        yield opened


def operations(town: Town) -> list[tuple[str, str, dict[str, Any]]]:
    paths = town.shop.app.openapi()["paths"]
    return [
        (method, path.removeprefix(API), operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if path.startswith(API)
    ]


def names_in(path: str) -> set[str]:
    return {part.strip("{}") for part in path.split("/") if part.startswith("{")}


def owned_operations(town: Town) -> list[tuple[str, str, dict[str, Any]]]:
    return [found for found in operations(town) if names_in(found[1]) - SHARED]


def ask(person: Person, method: str, path: str, things: dict[str, str], key: str) -> Any:
    body = BODIES.get((method, path))
    if isinstance(body, dict):
        body = {name: value.format(**things) if isinstance(value, str) else value for name, value in body.items()}
    return person.send(method.upper(), path.format(**things), body, key=key, **{"If-Match": "*"})


def things_of(tenant: Tenant, product_id: str) -> dict[str, str]:
    return {**tenant.things, "product_id": product_id, "number": "1"}


def strangers(town: Town) -> dict[str, Person]:
    """Everyone of the other tenant, and those of none who are not set over all of them."""
    nobodys = {name: town.others[name] for name in ("learner", "creator", "researcher", "publisher")}
    return {**{f"other {name}": person for name, person in town.tenants[1].callers.items()}, **nobodys}


def test_nothing_of_a_tenant_exists_for_another(shared_town: Town) -> None:
    town = shared_town
    ours, tried, wrong = town.tenants[0], 0, []
    hidden = {"draft": ours.draft, "in review": ours.in_review}
    on_sale = {"course": ours.things["product_id"], "talk": ours.things["talk_id"]}
    for method, path, operation in owned_operations(town):
        assert method == "get" or (method, path) in BODIES, f"{method} {path} needs a well-formed request here"
        public = bool(operation["x-access"].get("public"))
        for kind, product_id in {**hidden, **({} if public else on_sale)}.items():
            if "product_id" not in names_in(path) and kind != "draft":
                continue
            for name, person in strangers(town).items():
                if expected(operation["x-access"], who(name)) != 200:
                    continue
                answer = ask(person, method, path, things_of(ours, product_id), f"{name} {kind}".replace(" ", "-"))
                tried += 1
                meant = OTHERWISE.get((method, path), 404) if kind in on_sale else 404
                if answer.status_code != meant or "canary" in answer.text:
                    wrong.append(f"{name}: {method} {path} of a product {kind}: {answer.status_code} {answer.text}")
    assert not wrong, "\n".join(wrong)
    assert tried > 100


def test_the_same_requests_by_the_tenants_own_people_find_it(town: Town) -> None:
    ours = town.tenants[0]
    found: dict[tuple[str, str], set[str]] = {(method, path): set() for method, path, _ in owned_operations(town)}
    products = (ours.draft, ours.in_review, ours.things["product_id"], ours.things["talk_id"])
    requests = [
        (method, path, product_id, operation["x-access"])
        for product_id in products
        for method, path, operation in sorted(owned_operations(town), key=later(product_id == ours.in_review))
    ]
    for number, (method, path, product_id, rule) in enumerate(requests):
        for name, person in ours.people.items():
            if expected(rule, who(name)) == 200:
                answer = ask(person, method, path, things_of(ours, product_id), f"key-{number}-{name}")
                if answer.status_code != 404:
                    found[method, path].add(name)
    assert not [operation for operation, names in found.items() if not names]


def later(in_review: bool) -> Callable[[tuple[str, str, Any]], Any]:
    """Reading comes first: afterwards some of it is gone, or is no reviewer's business any more."""
    last = ("/archive", "/return" if in_review else "/publish")
    return lambda operation: (operation[0] != "get", operation[1].endswith(last))


def pages(person: Person, path: str, query: str) -> str:
    """The text of every page of a list, by its links."""
    text, address = "", f"{path}?{query}&limit=10" if query else f"{path}?limit=10"
    for _ in range(100):
        answer = person.get(address)
        text += answer.text
        link = answer.headers.get("link")
        if link is None:
            return text
        address = link.partition(">")[0].lstrip("<").removeprefix(API)
    raise AssertionError(f"{path} does not end")


def lists(town: Town) -> list[tuple[str, str, dict[str, Any]]]:
    """Addresses that take no id, with what they ask for beside it."""
    asked = {"/search": "q=canary", "/training/interactions": f"snapshot={town.snapshot}"}
    return [
        (path, asked.get(path, ""), operation["x-access"])
        for method, path, operation in operations(town)
        if method == "get" and "{" not in path
    ]


def test_no_list_shows_anything_of_another_tenant(shared_town: Town) -> None:
    town = shared_town
    ours, theirs = town.tenants
    secrets = [f"canary of {ours.id}", ours.draft, ours.in_review, ours.people["learner"].email]
    secrets += [ours.things[name] for name in ("order_id", "line_id", "review_id", "client_id", "slot_id")]
    shown = {}
    for path, query, rule in lists(town):
        for name, person in strangers(town).items():
            # What is public is the same for all.
            if expected(rule, who(name)) != 200 or (rule.get("public") and not name.endswith("operator")):
                continue
            text = shown[path, name] = pages(person, path, query)
            assert not [secret for secret in secrets if secret in text], f"{name}: {path}"
    histories = shown["/training/interactions", "other program with fl:join"]
    assert theirs.things["product_id"] in histories
    assert ours.things["product_id"] not in histories


def test_the_same_lists_show_their_own(shared_town: Town) -> None:
    town = shared_town
    for tenant in town.tenants:
        for role, path, wanted in (
            ("creator", "/me/products", tenant.draft),
            ("reviewer", "/review-queue", tenant.in_review),
            ("tenant-operator", "/sales", tenant.things["line_id"]),
            ("learner", "/orders", tenant.things["order_id"]),
            ("learner", "/me/entitlements", tenant.things["product_id"]),
        ):
            assert wanted in pages(tenant.people[role], path, ""), f"{role} {path}"
