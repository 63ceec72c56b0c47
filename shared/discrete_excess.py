"""What discrete Gaussian noise costs beyond continuous noise of the same size. Proof: docs/privacy-accounting.md.

P is the discrete Gaussian of parameter s on the integers, R the continuous one of standard deviation s rounded to the
nearest integer. With w = e^(-2 pi^2 s^2), for a >= 0 and s >= 1/2, per coordinate (Lemma 1):
    ln E_P (P/R)^a <= min(a x, a x + ln(1 - a g + a^2 q / 2)),   x = 1/(24 s^2),  q = m4 / (576 s^8),
                      g = m2/(24 s^4) - m4/(960 s^8),  m2 = s^2 - 80 s^4 w,  m4 = 3 s^4 + 3120 s^8 w;
    ln E_R (R/P)^a <= (a+1) ln((1 - x + 1/(640 s^4)) (1 + 3 w)) - 1/2 ln(1 - (a+1)/(12 s^2)),   a + 1 < 12 s^2.
Chernoff's bound on the independent coordinates gives the excess.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import exp, floor, fsum, inf, log1p, pi

from shared.mechanism import DiscreteGaussian

Moments = Callable[[float, float], float]
# From 0.01 to beyond 12 * 2^64, a tenth apart: eta is within 0.13 % of the best order's.
_LOG_ORDERS = tuple(-4.6 + step / 10 for step in range(560))


def log_moment_over(a: float, s: float) -> float:
    """Bound on ln E_P (P/R)^a for one coordinate: how far the discrete law can exceed the rounded one."""
    w = exp(-2 * pi**2 * s**2)
    m2, m4 = s**2 - 80 * s**4 * w, 3 * s**4 + 3120 * s**8 * w
    x, g, q = 1 / (24 * s**2), m2 / (24 * s**4) - m4 / (960 * s**8), m4 / (576 * s**8)
    return min(a * x, a * x + log1p(-a * g + a * a * q / 2))


def log_moment_under(a: float, s: float) -> float:
    """Bound on ln E_R (R/P)^a for one coordinate; inf where it does not exist."""
    if a + 1 >= 12 * s**2:
        return inf
    w = exp(-2 * pi**2 * s**2)
    shrink = log1p(-1 / (24 * s**2) + 1 / (640 * s**4)) + log1p(3 * w)
    return (a + 1) * shrink - 0.5 * log1p(-(a + 1) / (12 * s**2))


def touched(mechanism: DiscreteGaussian) -> int:
    """Coordinates in which two neighbours can differ: an integer vector of norm D has at most D^2 that are not zero."""
    return min(mechanism.num_coordinates, floor(mechanism.sensitivity**2 * (1 + 1e-12)))


def log_moments(bound: Moments, releases: Sequence[DiscreteGaussian], a: float) -> float:
    """Sum of a log-moment bound over every coordinate in which neighbours can differ, over every release."""
    sizes: Counter[int] = Counter()
    for release in releases:
        sizes[release.noise_std] += touched(release)
    return fsum(size * bound(a, float(noise_std)) for noise_std, size in sizes.items() if size)


def excess(bound: Moments, releases: Sequence[DiscreteGaussian], log_inverse_failure: float) -> float:
    """Least eta such that the log-likelihood ratio passes eta with probability at most e^-log_inverse_failure.

    Any order a gives a valid eta, so the grid only decides how good it is. It is the same for all releases, so that eta
    never falls when one is added.
    """
    if not any(touched(release) for release in releases):
        return 0.0

    def eta(log_a: float) -> float:
        a = exp(log_a)
        return (log_moments(bound, releases, a) + log_inverse_failure) / a

    return max(0.0, min(map(eta, _LOG_ORDERS)))
