"""For everyone who may call and every route: what is declared is what happens. Read from the application itself."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import iter_route_contexts
from httpx2 import Response

from platform_api.access import OPERATORS, PUBLIC, SCOPES, access
from platform_api.problems import Problem
from tests.platform_cast import Person
from tests.platform_town import Town, expected, who

# Not in the description: for scrapers, for readers of an error, and the description itself.
HIDDEN = {"/metrics", "/problems/{slug}", "/openapi.json"}


@pytest.fixture
def town(shared_town: Town) -> Iterator[Town]:
    """The shared one, whose routes are its own again afterwards."""
    kept = list(shared_town.shop.app.router.routes)
    yield shared_town
    shared_town.shop.app.router.routes[:] = kept


def routes(app: FastAPI) -> list[tuple[str, str, dict[str, Any] | None]]:
    """(method, path, declared rule) of every route, described or hidden."""
    return [
        (method, context.path, (getattr(context, "openapi_extra", None) or {}).get("x-access"))
        for context in iter_route_contexts(app.routes)
        for method in sorted((context.methods or set()) - {"HEAD"})
    ]


def undeclared(app: FastAPI) -> set[str]:
    return {path for _, path, rule in routes(app) if rule is None}


def test_every_scope_is_asked_for_by_a_route_and_no_other_is(town: Town) -> None:
    asked = {scope for _, _, rule in routes(town.shop.app) for scope in (rule or {}).get("scopes", ())}
    assert asked == set(SCOPES)


def filled(path: str) -> str:
    """The path with ids of nothing; numbers and digests where those are asked for."""
    for name, value in {"number": "999", "version": "999"}.items():
        path = path.replace(f"{{{name}}}", value)
    return path.replace("{", "no-").replace("}", "").replace("_", "-")


def answer(town: Town, person: Person | None, method: str, path: str) -> Response:
    headers = {} if person is None else person.headers
    return town.shop.http.request(method, filled(path), headers=headers)


def differences(town: Town, name: str, person: Person | None, declared: list[tuple[str, str, Any]]) -> list[str]:
    """Routes that treat this caller otherwise than they say."""
    found = []
    for method, path, rule in declared:
        wanted = expected(rule, None if person is None else who(name))
        got = answer(town, person, method, path)
        if person is not None and path.endswith("/logout") and got.status_code == 204:
            town.log_in_again(person)
        refused = got.status_code in (401, 403) and got.headers["content-type"] == "application/problem+json"
        # Logging in and messages of a provider are public, and refuse by what is sent along.
        fits = not refused or got.json()["type"].endswith("credentials") if wanted == 200 else refused
        if not fits or (wanted != 200 and got.status_code != wanted):
            found.append(f"{name}: {method} {path} should give {wanted}, gave {got.status_code}")
    return found


def test_every_route_declares_who_may_call_it_and_is_described(town: Town) -> None:
    app = town.shop.app
    described = {(m.upper(), path) for path, methods in app.openapi()["paths"].items() for m in methods}
    assert undeclared(app) == {"/openapi.json"}
    assert {path for method, path, _ in routes(app) if (method, path) not in described} == HIDDEN
    assert {(method, path) for method, path, _ in routes(app)} >= described
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            assert (method.upper(), path, operation["x-access"]) in routes(app)


def test_a_route_without_a_rule_is_found(town: Town) -> None:
    stray = APIRouter()
    stray.add_api_route("/stray", lambda: {})
    town.shop.app.include_router(stray)
    assert undeclared(town.shop.app) == {"/openapi.json", "/stray"}


def test_everyone_is_let_in_and_refused_as_declared(town: Town) -> None:
    declared = [route for route in routes(town.shop.app) if route[2] is not None]
    assert len(declared) > 80
    kinds = {None if person is None else who(name): (name, person) for name, person in town.callers.items()}
    assert len(kinds) == 10
    # Who may call is decided before any table of a feature is asked, so the whole matrix is run on one database; on
    # the other each route meets every third kind of caller, and each kind every third route.
    step = 1 if town.shop.app.state.database.is_sqlite else 3
    wrong = [
        difference
        for place, (name, person) in enumerate(kinds.values())
        for difference in differences(town, name, person, declared[place % step :: step])
    ]
    assert not wrong, "\n".join(wrong)


def test_a_route_that_does_otherwise_than_it_says_is_found(town: Town) -> None:
    def refuse() -> None:
        raise Problem("forbidden")

    lying, strict, stray = access(OPERATORS), access(PUBLIC), APIRouter()
    stray.add_api_route("/open", lambda: {}, openapi_extra=lying["openapi_extra"])
    stray.add_api_route("/shut", lambda: {}, dependencies=[Depends(refuse)], openapi_extra=strict["openapi_extra"])
    town.shop.app.include_router(stray)
    planted = [route for route in routes(town.shop.app) if route[1] in ("/open", "/shut")]
    learner = town.others["learner"]
    assert len(differences(town, "learner", learner, planted)) == 2
    assert len(differences(town, "nobody", None, planted)) == 2
    assert differences(town, "platform-operator", town.others["platform-operator"], planted) == [
        "platform-operator: GET /shut should give 200, gave 403"
    ]
