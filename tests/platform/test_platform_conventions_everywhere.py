"""Conventions of the whole API, tried on every operation that the description says they hold for."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.platform_cast import API, opened_shop
from tests.platform_town import Town, opened_town

# What moves money, by method and path; a new one must be added here and take a key.
MONEY = {("post", "/orders"), ("post", "/orders/{order_id}/refunds")}
# Answers with `items` that are whole, for there are never many.
WHOLE = {
    "/orders/{order_id}/refunds",
    "/me/creator-account",
    "/recommendations",
    "/recommendations/explain",
}
NEEDS = re.compile(r"Needs [^.]*If-Match")
# Changes that need If-Match: by whom, of what, and a well-formed body, in an order in which each can be done.
CHANGES: dict[tuple[str, str], tuple[str, str, Any]] = {
    ("patch", "/categories/{slug}"): ("platform-operator", "category", {"name_en": "Other"}),
    ("patch", "/products/{product_id}"): ("creator", "draft", {"title": "Other"}),
    ("post", "/products/{product_id}/submit"): ("creator", "draft", None),
    ("post", "/products/{product_id}/publish"): ("reviewer", "in review", None),
    ("post", "/products/{product_id}/return"): ("reviewer", "draft", {"note": "no"}),
    ("post", "/products/{product_id}/slots"): (
        "creator",
        "talk",
        {"starts_at": "2030-05-01T08:00:00Z", "ends_at": "2030-05-01T09:00:00Z"},
    ),
    ("delete", "/products/{product_id}/slots/{slot_id}"): ("creator", "talk", None),
    ("post", "/reviews/{review_id}/hide"): ("reviewer", "review", {"reason": "spam"}),
    ("post", "/reviews/{review_id}/show"): ("reviewer", "review", None),
    ("post", "/products/{product_id}/archive"): ("tenant-operator", "course", None),
}


@pytest.fixture
def town(settings_of: Any) -> Iterator[Town]:
    with opened_town(settings_of(access_token_seconds=86_400)) as opened:
        yield opened


Operation = tuple[str, str, dict[str, Any]]


def operations(town: Town) -> list[Operation]:
    paths = town.shop.app.openapi()["paths"]
    return [
        (method, path.removeprefix(API), operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if path.startswith(API)
    ]


def parameters(operation: dict[str, Any]) -> set[str]:
    return {parameter["name"] for parameter in operation.get("parameters", [])}


def answer_schema(town: Town, operation: dict[str, Any]) -> dict[str, Any]:
    content = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
    reference = content.get("schema", {}).get("$ref", "")
    schemas = town.shop.app.openapi()["components"]["schemas"]
    found: dict[str, Any] = schemas.get(reference.rpartition("/")[2], {})
    return found


def lists(town: Town) -> list[Operation]:
    return [found for found in operations(town) if "cursor" in parameters(found[2])]


def slug_of(answer: Any) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


def test_whatever_moves_money_needs_a_key(shared_town: Town) -> None:
    town = shared_town
    taking = {
        (method, path) for method, path, operation in operations(town) if "idempotency-key" in parameters(operation)
    }
    assert taking == MONEY
    things = town.tenants[0].things
    bodies = {
        "/orders": {"lines": [{"product_id": things["product_id"]}]},
        "/orders/{order_id}/refunds": {"line_id": things["line_id"]},
    }
    for method, path, operation in operations(town):
        if (method, path) in MONEY:
            for headers in ({}, {"Idempotency-Key": ""}, {"Idempotency-Key": "a b"}, {"Idempotency-Key": "k" * 256}):
                person = town.let_in(operation["x-access"])
                answer = person.post(path.format(**things), bodies[path], **headers)
                assert (answer.status_code, slug_of(answer)) == (400, "idempotency-key-missing"), path


def test_every_list_has_pages_and_knows_its_own_cursors(shared_town: Town) -> None:
    town = shared_town
    for method, path, operation in operations(town):
        properties = answer_schema(town, operation).get("properties", {})
        if method == "get" and "items" in properties and path not in WHOLE:
            assert {"cursor", "limit"} <= parameters(operation), path
            assert {"items", "has_more", "next_cursor"} <= set(properties), path
    things = {**town.tenants[0].things, "name": "recommender"}
    extra = {"/search": "&q=a", "/training/interactions": f"&snapshot={town.snapshot}"}
    foreign = town.shop.http.get(f"{API}/products?limit=1").json()["next_cursor"]
    assert foreign
    assert len(lists(town)) > 15
    for _, path, operation in lists(town):
        for query, status in (
            ("cursor=nonsense", 400),
            ("cursor=%E8%AF%BE", 400),
            ("cursor=" + "A" * 601, 422),
            (f"cursor={foreign}", 200 if path == "/products" else 400),
            ("limit=0", 422),
            ("limit=101", 422),
            ("limit=x", 422),
            ("limit=100", 200),
        ):
            address = f"{path.format(**things)}?{query}{extra.get(path, '')}"
            answer = town.let_in(operation["x-access"]).get(address)
            assert answer.status_code == status, f"{address}: {answer.text}"
            if status == 400:
                assert slug_of(answer) == "bad-cursor"


def test_every_change_that_states_it_is_refused_without_the_present_etag(town: Town) -> None:
    tenant, operator = town.tenants[0], town.others["platform-operator"]
    stated = {(method, path) for method, path, operation in operations(town) if NEEDS.search(operation["description"])}
    assert stated == set(CHANGES)
    for (method, path), (role, product, body) in CHANGES.items():
        person = operator if role == "platform-operator" else tenant.people[role]
        ids = {"draft": tenant.draft, "in review": tenant.in_review, "talk": tenant.things["talk_id"]}
        told = {**tenant.things, "product_id": ids.get(product, tenant.things["product_id"])}
        place = {"category": "/categories/privacy", "review": "/reviews/{review_id}"}.get(product)
        source = (place or "/products/{product_id}/manage").format(**told)
        etag = person.get(source).headers["etag"]
        for headers, status in (
            ({}, 428),
            ({"If-Match": '"another.1"'}, 412),
            ({"If-Match": f"W/{etag}"}, 412),
            ({"If-Match": etag.strip('"')}, 412),
        ):
            refused = person.send(method.upper(), path.format(**told), body, **headers)
            assert refused.status_code == status, f"{method} {path} {headers}: {refused.text}"
            assert refused.headers["content-type"] == "application/problem+json"
            assert person.get(source).headers["etag"] == etag, f"{method} {path} changed something"
        done = person.send(method.upper(), path.format(**told), body, **{"If-Match": f'"another.1", {etag}'})
        assert done.status_code in (200, 201, 204), f"{method} {path}: {done.text}"
        if product not in ("in review", "draft"):
            assert person.get(source).headers["etag"] != etag, f"{method} {path} changed nothing"


def test_every_answer_carries_a_request_id_and_the_headers_of_safety(shared_town: Town) -> None:
    town = shared_town
    operator = town.others["platform-operator"]
    for method, path, _ in operations(town):
        for headers in ({}, operator.headers):
            address = API + path.replace("{", "no-").replace("}", "")
            answer = town.shop.http.request(method, address, headers={**headers, "X-Request-Id": "req-of-a-client"})
            if path == "/logout" and headers:
                town.log_in_again(operator)
            told = answer.headers
            assert told["x-request-id"] == "req-of-a-client"
            assert told["x-content-type-options"] == "nosniff", path
            assert told["x-frame-options"] == "DENY", path
            assert "default-src 'none'" in told["content-security-policy"], path
            assert "max-age" in told["strict-transport-security"], path
            assert "cache-control" in told, path
            if answer.status_code >= 400:
                assert told["content-type"] == "application/problem+json", path
                assert answer.json()["request_id"] == "req-of-a-client"


def test_no_operation_takes_a_body_above_the_limit(settings_of: Any) -> None:
    with opened_shop(settings_of(max_body_bytes=1_000, max_model_bytes=2_000)) as shop:
        operator = shop.register(None, "platform-operator")
        for path, methods in shop.app.openapi()["paths"].items():
            for method in methods:
                address = path.replace("{", "no-").replace("}", "")
                large = b"x" * (1_000_000 if path.endswith("/candidates") else 1_001)
                answer = shop.http.request(method, address, content=large, headers=operator.headers)
                assert answer.status_code == 413, f"{method} {path}: {answer.status_code}"
                assert slug_of(answer) == "too-large"
