"""The public ledger of releases, and what they cost together."""

import pytest

from platform_api.privacy.page import CONTENT_SECURITY_POLICY
from platform_api.privacy.totals import Release, total
from shared.accounting import PrivacyStatement
from shared.accounting import epsilon as cost
from shared.mechanism import Gaussian, PoissonSampledGaussian
from tests.platform_cast import API, Shop
from tests.platform_models import NOISE, artifact, publisher_of, statement

DELTA = 1e-5


def _of(plan: str, *sigmas: float, **changes: object) -> Release:
    mechanisms = tuple(Gaussian(noise_std=sigma, sensitivity=1.0) for sigma in sigmas)
    fields = {"mechanisms": mechanisms, "epsilon": cost(mechanisms, 1e-6), **changes}
    return Release(plan_digest=plan, statement=statement(**fields))


def test_jobs_compose_and_models_of_one_job_share_its_cost() -> None:
    one, other = Gaussian(noise_std=5.0, sensitivity=1.0), Gaussian(noise_std=3.0, sensitivity=1.0)
    found = total([_of("a", 5.0), _of("a", 5.0), _of("b", 3.0)], DELTA)
    assert found.epsilon == pytest.approx(cost([one, other], DELTA))
    assert (found.num_releases, found.jobs) == (3, 2)
    # A later model of a job that was tried again lists more attempts: the largest list counts.
    assert total([_of("a", 5.0), _of("a", 5.0, 5.0)], DELTA).epsilon == pytest.approx(cost([one, one], DELTA))
    assert total([_of("a", 5.0), _of("b", 5.0)], DELTA).epsilon == pytest.approx(cost([one, one], DELTA))
    assert total([], DELTA).epsilon == 0


def test_a_statement_that_says_more_than_its_mechanisms_is_added_as_it_stands() -> None:
    found = total([_of("a", 5.0), _of("b", 5.0, epsilon=2.0)], DELTA)
    assert found.epsilon == pytest.approx(cost([NOISE[0]], DELTA) + 2.0)
    assert found.delta == pytest.approx(DELTA + 1e-6)
    # One that says less is charged what its mechanisms cost.
    assert total([_of("a", 5.0, epsilon=0.01)], DELTA).epsilon == pytest.approx(cost([NOISE[0]], DELTA))


@pytest.mark.parametrize(
    "bad",
    [
        _of("b", epsilon=1.7976931348623157e308),
        _of("b", 5.0, epsilon=1.7976931348623157e308),
        _of("b", epsilon=0.1),
        Release(
            plan_digest="b",
            statement=statement(mechanisms=(PoissonSampledGaussian(sample_rate=0.1, noise_multiplier=1.0, steps=9),)),
        ),
    ],
)
def test_no_total_is_stated_where_one_release_cannot_be_accounted(bad: Release) -> None:
    found = total([_of("a", 5.0), bad], DELTA)
    assert found.epsilon is None
    assert found.why


def test_a_release_beyond_the_arithmetic_leaves_the_ledger_readable(shop: Shop) -> None:
    publisher = publisher_of(shop)
    extreme = (Gaussian(noise_std=1e-200, sensitivity=1.0),)
    publisher.offer(artifact(1, privacy=statement(mechanisms=extreme, epsilon=0.1)))
    totals = shop.http.get(f"{API}/privacy-ledger/totals")
    assert totals.status_code == 200
    assert totals.json()["all"]["epsilon"] is None
    assert "beyond what can be accounted" in totals.json()["all"]["why"]
    assert shop.http.get("/privacy").status_code == 200


@pytest.mark.parametrize("error", [OverflowError("too large"), ValueError("no such order")])
def test_what_the_accountant_cannot_compute_is_the_reason(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    release = _of("a", 5.0)

    def fail(*_: object) -> float:
        raise error

    monkeypatch.setattr("platform_api.privacy.totals.accounting.epsilon", fail)
    found = total([release], DELTA)
    assert found.epsilon is None
    assert str(error) in found.why


def test_every_release_is_public_with_its_cost_and_against_whom(shop: Shop) -> None:
    publisher = publisher_of(shop)
    publisher.make_live(1)
    publisher.offer(artifact(2, privacy=statement(epsilon=0.1)))
    entries, cursor = [], ""
    while True:
        page = shop.http.get(f"{API}/privacy-ledger?limit=1{cursor}").json()
        entries += page["items"]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert [(entry["model_version"], entry["refused"]) for entry in entries] == [(2, True), (1, False)]
    shown = entries[1]
    assert shown["epsilon"] == pytest.approx(cost(NOISE, 1e-6))
    assert shown["against"] == "the server, while no tenant works with it"
    assert shown["released_at"] == "2029-12-26T17:20:00Z"
    assert PrivacyStatement.from_json({name: shown[name] for name in PrivacyStatement.__dataclass_fields__})
    totals = shop.http.get(f"{API}/privacy-ledger/totals").json()
    both = pytest.approx(cost([*NOISE, *NOISE], shop.settings.model_max_delta))
    assert [(family["family"], family["releases"]) for family in totals["families"]] == [("recommender", 2)]
    assert totals["families"][0]["epsilon"] == both
    assert totals["all"]["epsilon"] == both


def test_the_page_for_people_has_no_script_and_escapes_what_publishers_say(shop: Shop) -> None:
    publisher = publisher_of(shop)
    planted = "<script>alert(1)</script> & co"
    publisher.offer(artifact(1, privacy=statement(against=planted)))
    publisher.offer(artifact(2, privacy=statement(epsilon=1.7976931348623157e308, mechanisms=())))
    answer = shop.http.get("/privacy")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "script-src" not in CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "<script" not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in answer.text
    assert "not bounded" in answer.text
    assert "refused by the gate" in answer.text


def test_the_page_shows_a_stretch_and_where_the_next_begins(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from platform_api.privacy import routes

    monkeypatch.setattr(routes, "_ON_A_PAGE", 2)
    publisher = publisher_of(shop)
    for version in range(1, 4):
        publisher.offer(artifact(version))
    first = shop.http.get("/privacy").text
    assert "recommender 3" in first
    assert "recommender 1<" not in first
    assert '"/privacy?before=2"' in first
    last = shop.http.get("/privacy?before=2").text
    assert "recommender 1<" in last
    assert "before=" not in last
