"""How errors, unchanged answers and large bodies are answered."""

import asyncio
from typing import Any

import pytest

from platform_api.app import FEATURES
from platform_api.columns import metadata
from platform_api.middleware import Metrics, Observed
from platform_api.problems import PROBLEMS
from tests.platform_cast import API, Shop, opened_shop


def test_every_error_is_a_problem_with_a_page(shop: Shop) -> None:
    answers = [
        shop.http.get("/nowhere"),
        shop.http.delete(f"{API}/accounts"),
        shop.http.post(f"{API}/accounts", json={"email": "no"}),
        shop.http.post(f"{API}/accounts", content=b"\xff{", headers={"Content-Type": "application/json"}),
        shop.http.get(f"{API}/me"),
    ]
    for answer, status in zip(answers, (404, 405, 422, 400, 401), strict=True):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert body["status"] == status
        assert body["request_id"] == answer.headers["x-request-id"]
        page = shop.http.get(body["type"])
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
    assert answers[1].headers["allow"]
    for slug in PROBLEMS:
        assert shop.http.get(f"/problems/{slug}").status_code == 200


def test_an_error_does_not_repeat_what_was_sent(shop: Shop) -> None:
    wish = {"email": "mei@example.org", "password": "hidden-7", "display_name": "x", "secret-field": "hidden-7"}
    answer = shop.http.post(f"{API}/accounts", json=wish)
    assert answer.status_code == 422
    assert "hidden-7" not in answer.text


def test_a_failure_inside_is_a_problem_and_undoes_its_transaction(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from platform_api.accounts import routes

    def broken(*_: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(routes, "_profile", broken)
    wish = {"email": "mei@example.org", "password": "a long enough password", "display_name": "x"}
    answer = shop.http.post(f"{API}/accounts", json=wish)
    assert (answer.status_code, answer.json()["title"]) == (500, PROBLEMS["internal"][1])
    assert "planted" not in answer.text
    monkeypatch.undo()
    assert shop.http.post(f"{API}/accounts", json=wish).status_code == 201


def test_a_failure_inside_has_the_id_and_headers_of_every_answer_and_is_counted(shop: Shop) -> None:
    @shop.app.get("/broken")
    def broken() -> None:
        raise RuntimeError("planted")

    answer = shop.http.get("/broken", headers={"X-Request-Id": "req-of-a-client"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "req-of-a-client"
    whole = shop.http.get("/healthz").headers
    for name in ("x-content-type-options", "x-frame-options", "content-security-policy", "strict-transport-security"):
        assert answer.headers[name] == whole[name]
    assert answer.headers["cache-control"] == "no-cache, private"
    assert 'route="/broken",status="500"' in shop.http.get("/metrics").text


def test_an_answer_that_breaks_off_is_not_continued_with_another() -> None:
    sent: list[Any] = []

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("planted")

    async def keep(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "http", "method": "GET", "path": "/half", "headers": []}
    with pytest.raises(RuntimeError, match="planted"):
        asyncio.run(Observed(half, Metrics())(scope, keep, keep))
    assert sent == ["http.response.start"]


def test_an_unchanged_answer_is_304_and_carries_no_body(shop: Shop) -> None:
    person = shop.register()
    first = person.get("/me")
    again = person.get("/me", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    person.send("PATCH", "/me", {"language": "en"})
    assert person.get("/me", headers={"If-None-Match": first.headers["etag"]}).status_code == 200


def test_a_body_above_the_limit_is_refused_declared_or_not(settings_of: Any) -> None:
    with opened_shop(settings_of(max_body_bytes=1_000)) as shop:
        large = b'{"email": "' + b"a" * 5_000 + b'"}'
        for content in (large, iter([large[:600], large[600:]])):
            answer = shop.http.post(f"{API}/accounts", content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code == 413, answer.text
            assert answer.headers["content-type"] == "application/problem+json"


def test_health_and_metrics_name_no_one(shop: Shop) -> None:
    person = shop.register()
    person.get("/me")
    assert shop.http.get("/healthz").json() == {"status": "alive"}
    assert shop.http.get("/readyz").status_code == 200
    shown = shop.http.get("/metrics").text
    assert 'route="/me"' in shown
    assert person.id not in shown


def test_every_table_with_a_person_in_it_has_an_owner_that_exports_and_erases() -> None:
    owned = {table.__tablename__ for feature in FEATURES for table in feature.personal_tables}
    for table in metadata.tables.values():
        names_a_person = any(
            column.name == "user_id" or any(key.column.table.name == "users" for key in column.foreign_keys)
            for column in table.columns
        )
        assert not names_a_person or table.name in owned, f"nobody exports and erases {table.name}"
