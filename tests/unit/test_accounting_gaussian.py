"""Exact Gaussian DP against numbers worked out elsewhere, and its behaviour at the ends of its range."""

from math import inf, sqrt

import numpy as np
import pytest
from scipy.special import erfcx, log_ndtr

from shared.gaussian_dp import _mills, delta_gdp, epsilon_gdp, mu_for

GRID = [(mu, delta) for mu in (1e-3, 0.03, 0.27, 1.0, 3.7, 11.0, 50.0) for delta in (1e-12, 1e-9, 1e-6, 1e-5, 1e-2)]


def test_delta_matches_the_formula_where_floats_do_not_cancel() -> None:
    mu, epsilon = 1.3, 2.0
    a, b = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
    assert delta_gdp(mu, epsilon) == pytest.approx(np.exp(log_ndtr(a)) - np.exp(epsilon + log_ndtr(b)), rel=1e-12)


def test_the_published_figure_at_noise_multiplier_3_7_comes_out() -> None:
    # Gaussian mechanism with sigma 3.7 at delta 1e-5: 1.009 exact, against 1.10 by RDP.
    assert epsilon_gdp(1 / 3.7, 1e-5) == pytest.approx(1.009, abs=5e-4)


@pytest.mark.parametrize(("mu", "delta"), GRID)
def test_epsilon_mu_and_delta_are_each_others_inverses(mu: float, delta: float) -> None:
    epsilon = epsilon_gdp(mu, delta)
    if epsilon > 0:
        assert delta_gdp(mu, epsilon) == pytest.approx(delta, rel=1e-9)
        assert mu_for(epsilon, delta) == pytest.approx(mu, rel=1e-8)
    else:
        assert delta_gdp(mu, 0.0) <= delta


@pytest.mark.parametrize(("mu", "delta"), GRID)
def test_rounding_falls_on_the_safe_side(mu: float, delta: float) -> None:
    epsilon = epsilon_gdp(mu, delta)
    assert delta_gdp(mu, epsilon) <= delta * (1 + 1e-12)
    if epsilon > 0:
        assert delta_gdp(mu_for(epsilon, delta), epsilon) <= delta * (1 + 1e-12)


def test_delta_rises_with_mu_and_falls_with_epsilon() -> None:
    deltas = np.array([[delta_gdp(mu, e) for e in np.linspace(0, 30, 60)] for mu in np.geomspace(0.05, 20, 40)])
    assert np.all(np.diff(deltas, axis=0) >= 0)
    assert np.all(np.diff(deltas, axis=1) <= 0)


def test_the_mills_ratio_has_full_precision() -> None:
    points = np.linspace(0, 80, 4001)
    assert np.allclose([_mills(x) for x in points], sqrt(np.pi / 2) * erfcx(points / sqrt(2)), rtol=1e-14, atol=0)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.0, 1.0), (-1.0, 1.0), (inf, 1.0), (float("nan"), 1.0), (1.0, -0.1)])
def test_meaningless_arguments_are_refused(mu: float, epsilon: float) -> None:
    with pytest.raises(ValueError, match="must"):
        delta_gdp(mu, epsilon)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, float("nan")])
def test_a_delta_that_promises_nothing_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="delta"):
        epsilon_gdp(1.0, delta)
    with pytest.raises(ValueError, match="delta"):
        mu_for(1.0, delta)
