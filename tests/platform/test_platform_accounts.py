from pathlib import Path
from typing import Any

import pytest
from pwdlib import PasswordHash
from sqlalchemy import text

from platform_api.accounts import service as accounts
from platform_api.accounts.service import HASHER, NOBODY  # the product's own, before tests make them quick
from tests.platform_cast import API, PASSWORD, Person, Shop


def database_bytes(shop: Shop) -> bytes:
    """Every file that this database consists of."""
    database = shop.app.state.database
    if database.is_sqlite:
        # With the log of what is not in the file yet.
        folder = Path(database.engine.url.database).parent
        return b"".join(path.read_bytes() for path in folder.glob("platform.db*"))
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("CHECKPOINT"))
        place = "SELECT current_setting('data_directory') || '/base/' || oid FROM pg_database WHERE datname = "
        folder = Path(connection.execute(text(f"{place} current_database()")).scalar_one())
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def test_no_submitted_password_secret_or_token_is_in_the_bytes_of_the_database(shop: Shop) -> None:
    mei, li = shop.join(), shop.join()
    program = shop.join(None, "platform-operator").post("/clients", {"name": "x", "scopes": ["models:publish"]}).json()
    wrong, changed = "a password that fits nothing", "another password, long enough"
    form = {"grant_type": "password", "username": mei.email, "password": wrong}
    assert shop.http.post(f"{API}/tokens", data=form).status_code == 401
    assert mei.post("/me/erase", {"password": wrong}).status_code == 401
    change = {"old_password": PASSWORD, "new_password": changed}
    assert li.send("PUT", "/me/password", {**change, "old_password": wrong}).status_code == 401
    assert li.send("PUT", "/me/password", change).status_code == 204
    stored = database_bytes(shop)
    # What is kept is found, so what is not found is not kept.
    assert mei.email.encode() in stored
    assert program["id"].encode() in stored
    submitted = (PASSWORD, wrong, changed, program["client_secret"], mei.token, mei.refresh_token, li.refresh_token)
    assert [secret for secret in submitted if secret.encode() in stored] == []


def test_one_password_of_two_people_makes_two_hashes(shop: Shop) -> None:
    for _ in range(2):
        shop.join()
    with shop.app.state.database.reading() as session:
        hashes = [row[0] for row in session.execute(text("SELECT password_hash FROM users"))]
    assert hashes[0] != hashes[1]
    assert all(value.startswith("$argon2id$") for value in hashes)


def test_a_second_account_with_the_same_address_is_refused(shop: Shop) -> None:
    shop.join("mei@example.org")
    wish = {"email": " MEI@example.org", "password": PASSWORD, "display_name": "x"}
    answer = shop.http.post(f"{API}/accounts", json=wish)
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"


def test_nobodys_hash_is_of_the_products_own_cost_and_fits_no_password() -> None:
    assert not HASHER.current_hasher.check_needs_rehash(NOBODY)
    assert HASHER.current_hasher.check_needs_rehash(NOBODY.replace("t=3", "t=2"))
    assert HASHER.verify_and_update(PASSWORD, NOBODY) == (False, None)


def test_a_wrong_password_and_an_unknown_address_are_answered_alike(shop: Shop) -> None:
    shop.join("mei@example.org")
    answers = []
    for name, password in (("mei@example.org", "wrong password"), ("nobody@example.org", PASSWORD)):
        form = {"grant_type": "password", "username": name, "password": password}
        answer = shop.http.post(f"{API}/tokens", data=form)
        answers.append({**answer.json(), "request_id": ""})
    assert answers[0] == answers[1]
    assert answers[0]["status"] == 401


def test_a_refresh_token_is_good_once_and_its_reuse_ends_the_log_in(shop: Shop) -> None:
    person = shop.join()
    first = _refresh(shop, person.refresh_token)
    assert first.status_code == 200
    assert _refresh(shop, person.refresh_token).status_code == 401
    assert _refresh(shop, first.json()["refresh_token"]).status_code == 401
    assert person.get("/me").status_code == 401
    assert shop.log_in(person.email).get("/me").status_code == 200


def test_refresh_tokens_and_access_tokens_run_out(shop: Shop) -> None:
    person = shop.join()
    shop.clock.forward(seconds=901)
    assert person.get("/me").status_code == 401
    renewed = _refresh(shop, person.refresh_token)
    assert renewed.status_code == 200
    shop.clock.forward(days=31)
    assert _refresh(shop, renewed.json()["refresh_token"]).status_code == 401


def test_a_changed_password_ends_every_log_in(shop: Shop) -> None:
    person = shop.join()
    other = shop.log_in(person.email)
    change = {"old_password": PASSWORD, "new_password": "another long password"}
    assert person.send("PUT", "/me/password", {**change, "old_password": "no"}).status_code == 401
    assert person.send("PUT", "/me/password", change).status_code == 204
    assert other.get("/me").status_code == 401
    assert shop.log_in(person.email, "another long password").get("/me").status_code == 200


def test_logging_out_ends_one_log_in_or_all(shop: Shop) -> None:
    person = shop.join()
    other, third = shop.log_in(person.email), shop.log_in(person.email)
    assert person.post("/logout").status_code == 204
    assert (person.get("/me").status_code, other.get("/me").status_code) == (401, 200)
    assert other.post("/logout?everywhere=true").status_code == 204
    assert third.get("/me").status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-2] + ("AA" if token[-2:] != "AA" else "BB"),
        lambda token: token.split(".")[0] + "." + token.split(".")[1] + ".",
        lambda token: "eyJhbGciOiJub25lIn0." + token.split(".")[1] + ".",
        lambda token: "no token",
    ],
)
def test_a_token_that_is_not_ours_is_refused(shop: Shop, change: Any) -> None:
    person = shop.join()
    person.token = change(person.token)
    assert person.get("/me").status_code == 401


def test_a_lost_role_counts_at_once(shop: Shop) -> None:
    operator = shop.join(None, "platform-operator")
    assert operator.get("/clients").status_code == 200
    shop.give_roles(operator.id)
    assert operator.get("/clients").status_code == 403


def test_new_roles_leave_the_tenant_unless_it_is_taken_away_by_name(shop: Shop) -> None:
    operator, person = shop.join(None, "platform-operator"), shop.join()
    tenant = operator.post("/tenants", {"name": "Academy"}).json()["id"]

    def give(**wish: object) -> object:
        answer = operator.send("PUT", f"/users/{person.id}/roles", wish)
        return answer.json()["tenant_id"] if answer.status_code == 200 else answer.status_code

    assert give(roles=["reviewer"], tenant_id=tenant) == tenant
    assert give(roles=["reviewer", "creator"]) == tenant
    assert give(roles=["tenant-operator"]) == tenant
    assert give(roles=["tenant-operator"], tenant_id=None) == 422
    assert give(roles=["reviewer"], tenant_id=None) is None
    assert give(roles=["reviewer"]) is None
    assert give(roles=["tenant-operator"]) == 422


def test_a_revoked_program_is_refused_with_its_present_token(shop: Shop) -> None:
    operator = shop.join(None, "platform-operator")
    made = operator.post("/clients", {"name": "program", "scopes": ["models:publish"]}).json()
    form = {"grant_type": "client_credentials", "client_id": made["id"], "client_secret": made["client_secret"]}
    answer = shop.http.post(f"{API}/tokens", data=form)
    assert (answer.status_code, answer.json()["scope"]) == (200, "models:publish")
    program = Person(shop.http, made["id"], "", answer.json()["access_token"], "")
    assert program.get("/me").status_code == 403  # known, and not a person
    assert operator.send("DELETE", f"/clients/{program.id}").status_code == 204
    assert program.get("/me").status_code == 401


def test_a_program_gets_no_scope_that_its_role_has_not(shop: Shop) -> None:
    operator = shop.join(None, "platform-operator")
    tenant = operator.post("/tenants", {"name": "Academy"}).json()["id"]
    wish = {"name": "program", "scopes": ["models:publish"], "tenant_id": tenant}
    assert operator.post("/clients", wish).status_code == 422
    assert operator.post("/clients", {**wish, "scopes": ["fl:join"]}).status_code == 201
    assert operator.post("/clients", {**wish, "tenant_id": "tnt_none", "scopes": ["fl:join"]}).status_code == 422


def test_lists_come_in_pages_by_signed_cursors(shop: Shop) -> None:
    operator = shop.join(None, "platform-operator")
    names = {f"Academy {number}" for number in range(7)}
    for name in names:
        operator.post("/tenants", {"name": name})
    first = operator.get("/tenants?limit=3")
    assert 'rel="next"' in first.headers["link"]
    seen, cursor = [], ""
    while True:
        page = operator.get(f"/tenants?limit=3{cursor}").json()
        seen += [entry["name"] for entry in page["items"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == 7
    assert set(seen) == names
    good = first.json()["next_cursor"]
    for bad in ("x", good[:-1] + ("A" if good[-1] != "A" else "B"), good[:10]):
        assert operator.get(f"/tenants?cursor={bad}").status_code == 400
    assert operator.get(f"/clients?cursor={good}").status_code == 400


def test_attempts_to_log_in_are_limited(settings_of: Any) -> None:
    from tests.platform_cast import opened_shop

    with opened_shop(settings_of(logins_a_minute=3)) as shop:
        form = {"grant_type": "password", "username": "a@example.org", "password": "wrong"}
        answers = [shop.http.post(f"{API}/tokens", data=form) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert int(answers[3].headers["retry-after"]) >= 1


def _refresh(shop: Shop, token: str) -> Any:
    return shop.http.post(f"{API}/tokens", data={"grant_type": "refresh_token", "refresh_token": token})


def test_the_profile_is_changed_field_by_field(shop: Shop) -> None:
    person: Person = shop.join()
    assert person.send("PATCH", "/me", {"language": "en"}).json()["display_name"] == "梅"
    assert person.get("/me").json()["language"] == "en"
    assert person.send("PATCH", "/me", {"languages": "en"}).status_code == 422


def test_a_password_costs_what_argon2id_should(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "HASHER", PasswordHash.recommended())
    shop.join()
    with shop.app.state.database.reading() as session:
        (kept,) = session.execute(text("SELECT password_hash FROM users")).one()
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,")
