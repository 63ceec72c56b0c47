"""Opacus' accountant for Poisson-sampled Gaussians, as an argument of ours: `epsilon(..., sampled=prv_epsilon)`."""

import warnings
from collections.abc import Sequence

import numpy as np
from opacus.accountants.prv import PRVAccountant

from shared.mechanism import PoissonSampledGaussian

EPSILON_ERROR = 1e-3


def prv_epsilon(parts: Sequence[PoissonSampledGaussian], delta: float) -> float:
    """Upper bound on epsilon by composing privacy-loss random variables numerically (Gopi, Lee, Wutschitz 2021).

    At most EPSILON_ERROR and a thousandth of delta above the exact value; a sample_rate of 1 is a plain Gaussian.
    """
    accountant = PRVAccountant()
    accountant.history = [(part.noise_multiplier, part.sample_rate, part.steps) for part in parts]
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        # log(1 - sample_rate) is -inf at 1, as it should be; RDP serves to choose the domain only, at whatever order.
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        return float(accountant.get_epsilon(delta, eps_error=EPSILON_ERROR))
