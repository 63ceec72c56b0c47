"""Requests drawn from the API's own description, by everyone who may call: no answer may contradict it.

Some ten thousand of them: `FUZZ_EXAMPLES=30 pytest tests/platform/test_platform_schema_fuzzing.py`. The number is of
requests of each kind (fitting the description, and not) for each operation on each database; with it in the
environment, they differ from run to run. Add -s to read how they were answered.
"""

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.failures import FailureGroup
from schemathesis.python.asgi import ASGIClient
from schemathesis.specs.openapi.checks import negative_data_rejection

from tests.platform_town import Town, expected, opened_town, who

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "1"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


_DRAWN: list[tuple[Any, Any, Any]] = []


def drawn_from(town: Town) -> list[tuple[Any, Any, Any]]:
    """Each operation's rule, how its requests are drawn, and whether they fit; worked out once, for that is slow."""
    if not _DRAWN:
        schema = schemathesis.openapi.from_dict(town.shop.app.openapi())
        for result in schema.get_all_operations():
            operation = result.ok()
            rule = operation.definition.raw["x-access"]
            for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
                _DRAWN.append((rule, operation.as_strategy(mode), mode))
    return _DRAWN


@dataclass
class Fuzzing:
    """Draws, sends and judges; contradictions are collected, so that one run shows them all."""

    town: Town
    found: dict[str, str] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    _sent: int = 0

    def run(self, examples: int) -> None:
        client = ASGIClient(self.town.shop.app, base_url=self.town.shop.settings.public_url)
        # In the short run, PostgreSQL is asked a part: the rules that answer are the same.
        part = 1 if self.town.shop.app.state.database.is_sqlite or "FUZZ_EXAMPLES" in os.environ else 3
        for rule, strategy, mode in drawn_from(self.town)[::part]:
            self._draw(rule, strategy, mode, client, examples)
        client.close()

    def _draw(self, rule: Any, strategy: Any, mode: Any, client: ASGIClient, examples: int) -> None:
        everyone = self.town.callers
        may = [name for name, person in everyone.items() if expected(rule, who(name) if person else None) == 200]
        # Half of the time somebody who is let in: most are not, and are told no more than that.
        callers = st.one_of(st.sampled_from(may), st.sampled_from(sorted(everyone)))

        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            derandomize="FUZZ_EXAMPLES" not in os.environ,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=strategy,
            caller=callers,
            choice=st.integers(0, 2**12 - 1),
        )
        def send(case: Any, caller: str, choice: int) -> None:
            if mode.is_positive:
                self._with_known_ids(case.path_parameters, choice)
                self._with_known_ids(case.body, choice)
            self._send(case, caller, choice, client)

        try:
            send()
        except schemathesis.errors.InvalidSchema:
            raise
        except Exception as error:
            # There is nothing that would not fit, where an operation takes nothing.
            if mode.is_positive or type(error).__name__ not in ("Unsatisfiable", "SkipTest", "Skipped"):
                raise

    def _with_known_ids(self, told: Any, choice: int) -> None:
        """Half of the ids become those of things that exist: drawn ones are nothing's."""
        if isinstance(told, list):
            for entry in told:
                self._with_known_ids(entry, choice)
        elif isinstance(told, dict):
            for place, (name, value) in enumerate(list(told.items())):
                known = self.town.tenants[0].things.get(name)
                if known is not None and choice >> (place % 4) & 1:
                    told[name] = type(value)(known) if isinstance(value, int) else known
                else:
                    self._with_known_ids(value, choice)

    def _send(self, case: Any, caller: str, choice: int, client: ASGIClient) -> None:
        person = self.town.callers[caller]
        self._sent += 1
        for name in ("Authorization", "If-Match", "Idempotency-Key"):
            case.headers.pop(name, None)
        if person is not None:
            case.headers["Authorization"] = f"Bearer {person.token}"
        if choice >> 5 & 3:
            case.headers["If-Match"] = "*"
            case.headers["Idempotency-Key"] = f"drawn-{self._sent}"
        label = f"{case.operation.label} as {caller}"
        try:
            response = case.call(session=client, app=self.town.shop.app)
        except Exception as error:
            self.found.setdefault(f"{case.operation.label}: {type(error).__name__}", f"{label}: {error!r} {case!r}")
            return
        self.statuses[response.status_code] += 1
        self._judge(case, response, label)
        if person is not None and response.status_code == 204 and case.path.endswith(("/logout", "/me/password")):
            self.town.log_in_again(person)

    def _judge(self, case: Any, response: Any, label: str) -> None:
        # What is too large was refused before anybody looked at what else is wrong with it.
        judged = case.meta is not None and response.status_code != 413
        try:
            case.validate_response(response, checks=[*CHECKS, negative_data_rejection] if judged else CHECKS)
        except FailureGroup as group:
            for failure in group.exceptions:
                key = f"{case.operation.label}: {type(failure).__name__} {response.status_code}"
                self.found.setdefault(key, f"{label}: {failure} {case!r} {response.content[:500]!r}")
        wrong = contradiction(response)
        if wrong:
            self.found.setdefault(f"{case.operation.label}: {wrong}", f"{label}: {case!r} {response.content[:500]!r}")


def contradiction(response: Any) -> str:
    """What every answer must have and this one has not, "" for nothing."""
    headers = response.headers
    if not headers.get("x-request-id") or headers.get("x-content-type-options") != ["nosniff"]:
        return "no request id or no security headers"
    if response.status_code < 400:
        return ""
    if headers.get("content-type") != ["application/problem+json"]:
        return f"{response.status_code} is no problem+json"
    body = json.loads(response.content)
    if body["status"] != response.status_code or body["request_id"] != headers["x-request-id"][0]:
        return "the problem states another status or request"
    return ""


@pytest.fixture
def town(settings_of: Any) -> Any:
    with opened_town(settings_of(access_token_seconds=86_400)) as opened:
        yield opened


@pytest.mark.timeout(0 if "FUZZ_EXAMPLES" in os.environ else 300)
def test_no_answer_contradicts_the_description(town: Town) -> None:
    fuzzing = Fuzzing(town)
    fuzzing.run(EXAMPLES)
    print(sum(fuzzing.statuses.values()), "requests", dict(sorted(fuzzing.statuses.items())))
    assert not fuzzing.found, "\n".join(f"{key}\n    {told}" for key, told in sorted(fuzzing.found.items()))
    # What is drawn gets in often enough to mean something.
    assert {200, 403, 422} <= set(fuzzing.statuses)
