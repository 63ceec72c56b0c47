"""What the logs say, and what they never do."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from platform_api.logs import configure_logs
from tests.platform_cast import API, PASSWORD, Shop, opened_shop, settings_for

CANARY = "canary7f3e"


@pytest.fixture
def logged() -> Iterator[Any]:
    """logged(level) sends logs to a text; logged.lines() are its lines."""
    loggers = {name: logging.getLogger(name) for name in ("", "uvicorn", "uvicorn.error", "uvicorn.access")}
    before = {name: (logger.handlers[:], logger.level, logger.propagate) for name, logger in loggers.items()}
    text = io.StringIO()

    class Logged:
        def __call__(self, level: str = "info") -> None:
            configure_logs(level, text)

        def text(self) -> str:
            return text.getvalue()

        def lines(self) -> list[dict[str, Any]]:
            return [json.loads(line) for line in text.getvalue().splitlines()]

    yield Logged()
    logging.captureWarnings(False)
    structlog.reset_defaults()
    for name, (handlers, level, propagate) in before.items():
        loggers[name].handlers[:] = handlers
        loggers[name].setLevel(level)
        loggers[name].propagate = propagate


@pytest.fixture
def quiet_shop(tmp_path: Path) -> Iterator[Shop]:
    with opened_shop(settings_for(f"sqlite:///{tmp_path}/a.db", tmp_path)) as shop:
        yield shop


def everywhere(shop: Shop) -> str:
    """Requests with the canary in every place; the id of a person who made some."""
    http = shop.http
    person = shop.join(f"{CANARY}@example.org")
    headers = {
        **person.headers,
        "User-Agent": CANARY,
        "Referer": f"http://{CANARY}/",
        "Cookie": f"a={CANARY}",
        "X-Forwarded-For": "203.0.113.77",
        "X-Request-Id": f"{CANARY}@example.org",
    }
    http.get(f"{API}/search", params={"q": CANARY, CANARY: CANARY}, headers=headers)
    http.get(f"{API}/products/{CANARY}", headers=headers)
    http.get(f"/{CANARY}/{CANARY}", headers=headers)
    http.request(CANARY.upper(), f"{API}/me", headers=headers)
    http.patch(f"{API}/me", json={"display_name": CANARY}, headers=headers)
    http.patch(f"{API}/me", json={CANARY: CANARY}, headers=headers)
    http.post(f"{API}/accounts", json={"email": f"{CANARY}@example.org", "password": CANARY * 2, "display_name": "x"})
    http.post(f"{API}/tokens", data={"grant_type": "password", "username": CANARY, "password": CANARY})
    http.get(f"{API}/me", headers={"Authorization": f"Bearer {CANARY}"})
    http.post(f"{API}/me/nothing", content=CANARY.encode(), headers=headers)
    return person.id


def test_no_log_line_or_metric_holds_what_somebody_sent(quiet_shop: Shop, logged: Any) -> None:
    logged("debug")
    person_id = everywhere(quiet_shop)
    lines = logged.lines()
    assert len([line for line in lines if line["event"] == "request"]) >= 12
    metrics = quiet_shop.http.get("/metrics").text
    for said in (logged.text().casefold(), metrics.casefold()):
        for secret in (CANARY, person_id, PASSWORD, "203.0.113.77", "testclient", "example.org"):
            assert secret.casefold() not in said, secret
    wanted = {"time", "level", "logger", "event", "request_id", "method", "route", "status", "milliseconds"}
    assert all(set(line) == wanted for line in lines if line["event"] == "request")
    assert {"other", "GET", "PATCH", "POST"} == {line["method"] for line in lines if line["event"] == "request"}


def test_a_log_of_paths_would_be_noticed(quiet_shop: Shop, logged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    logged("info")
    plain = structlog.get_logger

    class Leaky:
        def info(self, event: str, **values: Any) -> None:
            plain("platform").info(event, path=f"/{CANARY}", **values)

    monkeypatch.setattr("platform_api.middleware.structlog.get_logger", lambda *_: Leaky())
    quiet_shop.http.get(f"/{CANARY}")
    assert CANARY in logged.text()


def test_an_error_is_logged_by_type_and_place_and_never_by_message(quiet_shop: Shop, logged: Any) -> None:
    logged("error")

    @quiet_shop.app.get("/broken")
    def broken() -> None:
        try:
            raise KeyError(f"{CANARY}@example.org")
        except KeyError as error:
            raise ValueError(f"no {CANARY}") from error

    assert quiet_shop.http.get("/broken").status_code == 500
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=_raised())
    assert CANARY not in logged.text()
    first, second = logged.lines()
    assert (first["event"], first["error"]) == ("request failed", "ValueError < KeyError")
    assert any("broken" in place for place in first["places"])
    assert second["error"] == "ValueError < KeyError"
    assert any("_raised" in place for place in second["places"])


def _raised() -> BaseException:
    try:
        try:
            raise KeyError(CANARY)
        except KeyError as error:
            raise ValueError(CANARY) from error
    except ValueError as error:
        return error


def test_a_database_error_does_not_quote_the_values_of_its_statement(quiet_shop: Shop) -> None:
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    with pytest.raises(DBAPIError) as told, quiet_shop.app.state.database.writing() as session:
        session.execute(text("INSERT INTO users (email) VALUES (:email)"), {"email": CANARY})
    assert CANARY not in str(told.value)


@pytest.mark.parametrize(("level", "heard"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_that_of_the_setting_for_ours_and_the_servers(logged: Any, level: str, heard: int) -> None:
    logged(level)
    for logger in (structlog.get_logger("platform"), logging.getLogger("uvicorn.error")):
        for name in ("debug", "info", "warning", "error"):
            getattr(logger, name)("said")
    logging.getLogger("httpx").info("a library's chatter")
    assert [line["logger"] for line in logged.lines()] == ["platform"] * heard + ["uvicorn.error"] * heard


def test_warnings_and_libraries_are_lines_of_the_same_form(logged: Any) -> None:
    logged("info")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("old", UserWarning, stacklevel=1)
    logging.getLogger("alembic").warning("%s of %s", "one", "two")
    assert [line["logger"] for line in logged.lines()] == ["py.warnings", "alembic"]
    assert logged.lines()[1]["event"] == "one of two"
