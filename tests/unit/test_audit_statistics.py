"""The statistics of an audit on distributions whose truth is known: intervals cover it, attacks find it, no more."""

import json
from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest

from shared.errors import BadSetting
from shared.gaussian_dp import epsilon_gdp
from shared.interactions import Interactions
from simulations.auditing.classifier import distinguish, guessed, halves
from simulations.auditing.findings import CONFIDENCE, Finding, all_good, found
from simulations.auditing.membership import Trained, areas, hits_at, likelihood_ratios, most_popular
from simulations.auditing.report import AuditReport, html_report
from simulations.auditing.statistics import (
    Interval,
    advantage_interval,
    allowed_advantage,
    allowed_auc,
    allowed_hits,
    auc,
    binomial_interval,
    threshold_at,
    unit_mean_interval,
)
from simulations.auditing.timing import fit


def finding(**changes: object) -> Finding:
    fields = {
        "attack": "masks", "kind": "attack", "name": "n", "world": "w", "statistic": "AUC", "allowed": 0.5,
        "trials": 9, "seed": 1,
    }  # fmt: skip
    return replace(found(0.5, Interval(0.4, 0.6), **fields), **changes)


def test_the_binomial_interval_is_clopper_and_pearsons() -> None:
    assert binomial_interval(0, 10, 0.95) == Interval(0.0, pytest.approx(1 - 0.025 ** (1 / 10)))
    assert binomial_interval(10, 10, 0.95).low == pytest.approx(0.025 ** (1 / 10))
    seven = binomial_interval(7, 20, 0.95)
    assert (seven.low, seven.high) == (pytest.approx(0.1539, abs=1e-4), pytest.approx(0.5922, abs=1e-4))


@pytest.mark.parametrize(("first", "second"), [(0.5, 0.5), (0.2, 0.9), (0.0, 1.0)])
def test_the_interval_of_an_advantage_covers_it_though_the_worlds_have_different_rates(
    first: float, second: float
) -> None:
    rng = np.random.default_rng(1)
    truth = first + second - 1
    correct = rng.binomial(50, first, 2_000) + rng.binomial(50, second, 2_000)
    intervals = {int(count): advantage_interval(int(count), 100, 0.95) for count in np.unique(correct)}
    covered = [intervals[int(count)].low <= truth <= intervals[int(count)].high for count in correct]
    assert np.mean(covered) >= 0.95


def test_the_interval_of_a_mean_covers_it_and_owns_up_where_nothing_varies() -> None:
    rng = np.random.default_rng(2)
    covered = [
        interval.low <= 0.6 <= interval.high
        for interval in (unit_mean_interval(rng.beta(6, 4, 12), 0.95) for _ in range(1_000))
    ]
    assert 0.92 <= np.mean(covered) <= 0.98
    assert unit_mean_interval(np.ones(8), 0.999) == Interval(pytest.approx(0.0005 ** (1 / 8)), 1.0)
    assert unit_mean_interval(np.zeros(8), 0.999) == Interval(0.0, pytest.approx(1 - 0.0005 ** (1 / 8)))


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.5])
def test_a_gaussian_shift_reaches_exactly_what_its_mu_allows(mu: float) -> None:
    rng = np.random.default_rng(3)
    inside, outside = rng.normal(mu, 1, 200_000), rng.normal(0, 1, 200_000)
    assert auc(inside, outside) == pytest.approx(allowed_auc(mu), abs=0.004)
    best = np.mean(inside > mu / 2) - np.mean(outside > mu / 2)
    assert best == pytest.approx(allowed_advantage(mu), abs=0.006)
    cut = threshold_at(outside, 0.01)
    assert np.mean(outside > cut) == pytest.approx(0.01, abs=1e-5)
    assert np.mean(inside > cut) == pytest.approx(allowed_hits(mu, 0.01), abs=0.006)


def test_what_is_allowed_at_one_rate_is_within_epsilon_and_delta() -> None:
    mu, delta = 0.8, 1e-5
    for rate in (1e-4, 0.01, 0.3):
        assert allowed_hits(mu, rate) <= np.exp(epsilon_gdp(mu, delta)) * rate + delta


def test_ties_count_half_in_the_area() -> None:
    assert auc(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0.5
    assert auc(np.array([2.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(7 / 8)


def test_a_distinguisher_of_equal_worlds_finds_nothing_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    worlds = np.arange(80) % 2 == 1
    lows = [distinguish(rng.normal(size=(80, 30)), worlds, rng=rng, confidence=0.9).interval.low for _ in range(60)]
    assert np.mean(np.array(lows) > 0) <= 0.1


@pytest.mark.parametrize("kind", ["one feature in thirty", "the sum of all", "a constant that differs"])
def test_a_distinguisher_finds_what_is_there(kind: str) -> None:
    rng = np.random.default_rng(5)
    worlds = np.arange(200) % 2 == 1
    features = rng.normal(size=(200, 30))
    if kind == "one feature in thirty":
        features[worlds, 7] += 4.0
    if kind == "the sum of all":
        features[worlds] += 0.8
    if kind == "a constant that differs":
        features = np.repeat(worlds[:, None], 3, axis=1).astype(float)
    seen = distinguish(features, worlds, rng=rng, confidence=0.999)
    assert seen.interval.low > 0.4
    assert seen.trials == 100


def test_worlds_in_which_nothing_differs_give_exactly_nothing() -> None:
    rng = np.random.default_rng(6)
    seen = distinguish(np.ones((40, 9)), np.arange(40) % 2 == 1, rng=rng, confidence=0.999)
    assert seen.advantage == 0


def test_fit_and_measured_halves_share_no_transcript() -> None:
    worlds = np.arange(21) % 3 == 0
    fit_on, measured = halves(worlds, np.random.default_rng(7), 0.5)
    assert sorted([*fit_on, *measured]) == list(range(21))


def test_a_fixed_test_is_measured_on_every_transcript() -> None:
    worlds = np.arange(40) % 2 == 1
    seen = guessed(np.where(worlds, 1.0, -1.0), worlds, confidence=0.999)
    assert (seen.advantage, seen.trials) == (1.0, 40)
    assert seen.interval.low == pytest.approx(2 * 0.0005 ** (1 / 40) - 1)


def synthetic(shift: float, seed: int, models: int = 60, users: int = 80) -> Trained:
    """Two statistics that vary by user far more than by membership, one of which moves when a user is in."""
    rng = np.random.default_rng(seed)
    members = rng.random((models, users)) < 0.5
    level = np.random.default_rng(0).normal(0, 5, (users, 2))
    statistics = level + rng.normal(size=(models, users, 2))
    statistics[..., 0] += shift * members
    return Trained(statistics=statistics, members=members)


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_reference_models_reach_the_power_of_the_known_shift(shift: float) -> None:
    targets = synthetic(shift, 9, models=300)
    ratios = likelihood_ratios(synthetic(shift, 8, models=400), targets)
    assert areas(ratios, targets.members).mean() == pytest.approx(allowed_auc(shift) if shift else 0.5, abs=0.03)
    hits, alarms = hits_at(ratios, targets.members, 0.01)
    assert alarms.mean() == pytest.approx(0.01, abs=0.01)
    assert hits.mean() == pytest.approx(allowed_hits(shift, 0.01) if shift else 0.01, abs=0.08)


def test_only_the_most_popular_items_and_users_who_keep_two_stay() -> None:
    rows = [[0, 1, 2], [2, 1], [3, 1], [2, 3, 1]]
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    history = Interactions(
        num_items=4,
        offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        items=items,
        weights=np.ones(len(items), dtype=np.float32),
    )
    small = most_popular(history, 2)
    assert [small.history(user).tolist() for user in range(small.num_users)] == [[0, 1], [1, 0], [1, 0]]


def test_a_slope_of_time_is_found_with_its_interval() -> None:
    rng = np.random.default_rng(10)
    interactions = np.repeat([0, 1_000, 5_000], 30)
    slope = fit(interactions, 0.01 + interactions * 20e-9 + rng.normal(0, 1e-5, 90))
    assert slope.microseconds_a_thousand == pytest.approx(20.0, rel=0.2)
    assert slope.interval.low < 20 < slope.interval.high
    assert slope.base_microseconds == pytest.approx(10_000, rel=0.01)
    assert fit(interactions, rng.normal(0.01, 1e-4, 90)).interval.low < 0


@pytest.mark.parametrize(
    ("kind", "low", "verdict", "bad"),
    [
        ("attack", 0.5, "within the statement", False),
        ("attack", 0.51, "exceeds the statement", True),
        ("control", 0.51, "caught", False),
        ("control", 0.5, "not caught", True),
        ("residual", 0.5, "within the statement", False),
        ("residual", 0.51, "residual leak", False),
    ],
)
def test_the_lower_bound_decides_and_a_control_must_pass_what_is_allowed(
    kind: str, low: float, verdict: str, bad: bool
) -> None:
    row = finding(kind=kind, low=low)
    assert (row.verdict, row.is_bad) == (verdict, bad)
    assert all_good([finding(), row]) is not bad


def test_an_estimate_outside_its_interval_is_refused() -> None:
    with pytest.raises(BadSetting, match="outside"):
        found(
            0.7, Interval(0.4, 0.6), attack="masks", kind="attack", name="n", world="w", statistic="AUC",
            allowed=0.5, trials=9, seed=1,
        )  # fmt: skip


def test_a_report_is_strict_json_whatever_its_numbers_are() -> None:
    rows = (finding(high=None), finding(estimate=nan, high=inf))
    report = AuditReport(
        findings=rows, seed=1, quick=True, data="none", timings_seconds={"masks": 1.0}, peak_memory_mb=1.0
    )
    value = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [row["high"] for row in value["findings"]] == [None, None]
    assert value["findings"][1]["estimate"] is None
    assert value["confidence"] == CONFIDENCE


def test_a_page_shows_a_failure_and_stands_alone() -> None:
    report = AuditReport(
        findings=(finding(name="<masks>", low=0.51),),
        seed=1, quick=False, data="none", timings_seconds={}, peak_memory_mb=1.0,
    )  # fmt: skip
    page = html_report(report)
    assert not report.passed
    assert "exceeds the statement" in page
    assert "FAILED. &lt;masks&gt;" in page
    assert "http" not in page
