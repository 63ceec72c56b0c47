"""Our accountant beside Google's dp_accounting and Opacus', on everything that they share. `-s` prints the table."""

import warnings

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from opacus.accountants.analysis.gdp import eps_from_mu
from opacus.accountants.rdp import RDPAccountant

from shared.accounting import epsilon, epsilon_rdp
from shared.mechanism import DiscreteGaussian, Gaussian, Mechanism, PoissonSampledGaussian
from simulations.prv import EPSILON_ERROR, prv_epsilon

BOTH_WAYS = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
PLAIN = [((1 / 3.7,), 1e-5), ((0.1,), 1e-6), ((1.0,), 1e-6), ((0.3, 0.7, 0.2), 1e-6), ((3.0, 2.0), 1e-8)]
SAMPLED: list[list[Mechanism]] = [
    [PoissonSampledGaussian(sample_rate=0.01, noise_multiplier=1.0, steps=100)],
    [PoissonSampledGaussian(sample_rate=0.5, noise_multiplier=2.0, steps=5)],
    [
        PoissonSampledGaussian(sample_rate=0.02, noise_multiplier=0.9, steps=50),
        Gaussian(noise_std=4.0, sensitivity=1.0),
    ],
]


def pld_epsilon(mechanisms: list[Mechanism], delta: float) -> float:
    accountant = PLDAccountant(BOTH_WAYS)
    for mechanism in mechanisms:
        if isinstance(mechanism, PoissonSampledGaussian):
            event = dp_accounting.GaussianDpEvent(mechanism.noise_multiplier)
            accountant.compose(dp_accounting.PoissonSampledDpEvent(mechanism.sample_rate, event), mechanism.steps)
        else:
            accountant.compose(dp_accounting.GaussianDpEvent(mechanism.noise_std / mechanism.sensitivity))
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize(("mus", "delta"), PLAIN)
def test_plain_gaussians_agree_with_googles_pld_to_a_thousandth(mus: tuple[float, ...], delta: float) -> None:
    ours: list[Mechanism] = [Gaussian(noise_std=1 / mu, sensitivity=1.0) for mu in mus]
    theirs = pld_epsilon(ours, delta)
    print(f"\n| Gaussian, mu {mus}, delta {delta:g} | {epsilon(ours, delta):.5f} | {theirs:.5f} (PLD) |")
    assert epsilon(ours, delta) == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize(("mus", "delta"), PLAIN)
def test_plain_gaussians_agree_with_opacus_prv_and_gdp_to_a_thousandth(mus: tuple[float, ...], delta: float) -> None:
    ours: list[Mechanism] = [Gaussian(noise_std=1 / mu, sensitivity=1.0) for mu in mus]
    total = sum(mu * mu for mu in mus) ** 0.5
    everyone = [PoissonSampledGaussian(sample_rate=1.0, noise_multiplier=1 / mu, steps=1) for mu in mus]
    prv, gdp = prv_epsilon(everyone, delta), float(eps_from_mu(mu=total, delta=delta))
    exact = epsilon(ours, delta)
    print(f"\n| Gaussian, mu {mus}, delta {delta:g} | {exact:.5f} | {prv:.5f} (PRV), {gdp:.5f} (GDP) |")
    assert exact == pytest.approx(gdp, abs=1e-3)
    assert exact - 1e-4 <= prv <= exact + EPSILON_ERROR + 1e-3


@pytest.mark.parametrize(("mus", "delta"), PLAIN)
def test_our_renyi_bound_is_at_most_googles_and_opacus(mus: tuple[float, ...], delta: float) -> None:
    mu = sum(part * part for part in mus) ** 0.5
    google, opacus = RdpAccountant(), RDPAccountant()
    for part in mus:
        google.compose(dp_accounting.GaussianDpEvent(1 / part))
        opacus.history.append((1 / part, 1.0, 1))
    fine = [1 + step / 50 for step in range(1, 4000)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        theirs = float(google.get_epsilon(delta)), float(opacus.get_epsilon(delta, alphas=fine))
    ours = epsilon_rdp(mu, delta)
    print(f"\n| Renyi, mu {mus}, delta {delta:g} | {ours:.5f} | {theirs[0]:.5f} (RDP), {theirs[1]:.5f} (Opacus RDP) |")
    assert ours <= min(theirs) * (1 + 1e-4)
    assert ours == pytest.approx(theirs[1], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("mechanisms", SAMPLED)
def test_sampled_gaussians_agree_with_googles_pld_in_both_directions(mechanisms: list[Mechanism]) -> None:
    ours, theirs = epsilon(mechanisms, 1e-6, sampled=prv_epsilon), pld_epsilon(mechanisms, 1e-6)
    rates = " + ".join(type(mechanism).__name__ for mechanism in mechanisms)
    print(f"\n| {rates} | {ours:.5f} | {theirs:.5f} (PLD) |")
    # Theirs is an upper bound too, so ours may lie a little below it and above it by its own stated error.
    assert theirs - 1e-3 <= ours <= theirs + EPSILON_ERROR + 1e-3


def test_a_discrete_release_is_dearer_than_googles_figure_for_continuous_noise_by_its_excess_alone() -> None:
    discrete = DiscreteGaussian(noise_std=2**20, sensitivity=2.0**18, num_coordinates=500_000)
    theirs = pld_epsilon([Gaussian(noise_std=4.0, sensitivity=1.0)], 1e-6)
    assert theirs < epsilon([discrete], 1e-6) < theirs + 1e-3
