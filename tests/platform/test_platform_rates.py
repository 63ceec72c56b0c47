"""How many requests a caller may make that change something."""

from typing import Any

from platform_api.database import Database
from tests.platform_cast import API, PASSWORD, Shop, opened_shop

LIMIT = 3


def changes_in(shop: Shop) -> list[tuple[str, str]]:
    paths = shop.app.openapi()["paths"]
    return [
        (method.upper(), path.removeprefix(API).replace("{", "no-").replace("}", ""))
        for path, methods in paths.items()
        for method, operation in methods.items()
        if path.startswith(API) and method != "get" and not operation["x-access"].get("public")
    ]


def test_every_route_that_changes_something_counts_and_refuses_its_caller(settings_of: Any) -> None:
    with opened_shop(settings_of(writes_a_minute=LIMIT)) as shop:
        person = shop.join()
        changes = changes_in(shop)
        assert len(changes) > 30
        for left in (2, 1, 0):
            counted = person.send("PATCH", "/me", {"language": "en"})
            assert counted.status_code == 200
            told = [counted.headers[f"ratelimit-{name}"] for name in ("limit", "remaining")]
            assert told == [str(LIMIT), str(left)]
            assert 1 <= int(counted.headers["ratelimit-reset"]) <= 60
        for method, path in changes:
            refused = person.send(method, path)
            assert refused.status_code == 429, f"{method} {path}: {refused.text}"
            assert refused.headers["content-type"] == "application/problem+json"
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.headers["ratelimit-remaining"] == "0"


def test_reading_is_not_counted_and_one_caller_does_not_use_up_another_s_share(settings_of: Any) -> None:
    with opened_shop(settings_of(writes_a_minute=LIMIT)) as shop:
        mei, li = shop.join(), shop.join()
        for _ in range(LIMIT + 2):
            read = mei.get("/me")
            assert read.status_code == 200
            assert "ratelimit-limit" not in read.headers
        statuses = [mei.send("PATCH", "/me", {"language": "en"}).status_code for _ in range(LIMIT + 1)]
        assert statuses == [200] * LIMIT + [429]
        assert mei.get("/me").status_code == 200
        assert li.send("PATCH", "/me", {"language": "en"}).status_code == 200


def test_what_is_refused_for_another_reason_is_counted_too(settings_of: Any) -> None:
    with opened_shop(settings_of(writes_a_minute=LIMIT)) as shop:
        person = shop.join()
        sent = [
            person.post("/tenants", {"name": "x"}),
            person.send("PATCH", "/me", {"unknown": 1}),
            person.post("/orders", {}),
            person.post("/logout"),
        ]
        assert sent[0].status_code == 403
        assert [answer.headers["ratelimit-remaining"] for answer in sent] == ["2", "1", "0", "0"]
        assert sent[3].status_code == 429


def test_asking_by_registration_who_has_an_account_uses_up_the_attempts_to_log_in(settings_of: Any) -> None:
    with opened_shop(settings_of(logins_a_minute=LIMIT + 2)) as shop:
        person = shop.join()  # two attempts: it registers and logs in
        wish = {"email": person.email, "password": PASSWORD, "display_name": "x"}
        asked = [shop.http.post(f"{API}/accounts", json=wish) for _ in range(LIMIT + 1)]
        assert [answer.status_code for answer in asked] == [409] * LIMIT + [429]
        assert int(asked[-1].headers["retry-after"]) >= 1
        form = {"grant_type": "password", "username": person.email, "password": PASSWORD}
        assert shop.http.post(f"{API}/tokens", data=form).status_code == 429


def test_a_request_too_many_opens_no_transaction_that_writes(settings_of: Any, monkeypatch: Any) -> None:
    with opened_shop(settings_of(writes_a_minute=1)) as shop:
        person = shop.join()
        assert person.send("PATCH", "/me", {"language": "en"}).status_code == 200
        opened: list[int] = []
        writing = Database.writing

        def watched(self: Database) -> Any:
            opened.append(1)
            return writing(self)

        monkeypatch.setattr(Database, "writing", watched)
        assert person.send("PATCH", "/me", {"language": "en"}).status_code == 429
        assert person.post("/me/erase", {"password": PASSWORD}).status_code == 429
        assert opened == []
        assert shop.http.post(f"{API}/tokens", data={"grant_type": "refresh_token"}).status_code == 401
        assert opened == [1]  # what watches, sees
