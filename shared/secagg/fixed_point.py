"""Real vectors as integers of `scale` steps to the unit, with a bound on what one user can move, rounding included.

Two roads. A user whose vector is known alone is rounded alone (`round_users`): the price of rounding is the one of
Kairouz, Liu, Steinke 2021 ("The Distributed Discrete Gaussian Mechanism", ICML, Def. 3.1 and Prop. 22). A tenant that
only has the float64 sum of its users rounds that sum (`round_sum`), which costs a little more sensitivity.
Scales are powers of two, so that scaling a float64 is exact.
"""

from collections.abc import Callable
from math import exp, inf, log2, nextafter, sqrt
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.clipping import UserVectors
from shared.errors import BadInput, CapacityExceeded

MAX_SCALE = 2**32
# Failure probability in the norm bound of conditional rounding, the choice of Kairouz et al. 2021, section 5.
BETA = exp(-0.5)
# A float64 sum whose deviation passes 12 standard deviations of a sub-Gaussian noise: at most 2 exp(-72) a coordinate.
NOISE_DEVIATIONS = 12


class Uniform(Protocol):
    """A source of uniform numbers in [0, 1): `prg.KeystreamUniform`, or numpy's Generator in experiments."""

    def random(self, size: int) -> NDArray[np.float64]: ...


# Redraws before a vector is truncated instead. Each succeeds with probability at least 1 - BETA = 0.39.
_MAX_DRAWS = 64
_UNIT_ROUNDOFF = 2.0**-53
# How far one user's term in a tenant's sum may be off in proportion to the clip, computed twice among different other
# users: batched float64 products cancel when a server chooses large item factors. Within the bounds that clients put on
# those and on the ridge, an adversarial search found 3e-10 at most. For users whose history is fitted perfectly it
# grows as the clip shrinks: 2.4e-11 at the least clip that a plan may have (`plan.MIN_GRAD_NORM`), and at 1e-8, were
# it allowed, 2.4e-9, which is more than is set aside here.
_TERM_ERROR = 2.0**-30


def rounded_sensitivity(*, scale: int, clip: float, num_touched: int) -> float:
    """L2 bound, in steps, of one user's vector after `round_users`.

    num_touched: coordinates of one user that can differ from zero, at most. With s the scale, c the clip, m touched:
    D^2 = min(s^2 c^2 + m/4 + sqrt(2 ln 1/BETA) (s c + sqrt(m)/2), (s c + sqrt(m))^2)   (Kairouz et al. 2021, eq. 1)
    Raises BadInput for a scale that is not a power of two up to 2^32, or a bound below one.
    """
    length, spread = _scaled_clip(scale, clip), sqrt(_at_least_one("num_touched", num_touched))
    # sqrt(2 ln 1/BETA) is 1.
    likely = length * length + spread * spread / 4 + length + spread / 2
    return _up(sqrt(min(likely, (length + spread) ** 2)))


def rounded_sum_sensitivity(*, scale: int, clip: float, num_coordinates: int, max_users: int) -> float:
    """L2 bound, in steps, of what one user moves in `round_sum` of a float64 sum of clipped vectors.

    Let T and T' be the exact sums without and with the user, F and F' what float64 gives. Rounding to nearest is off
    by at most 1/2 a coordinate, sqrt(m)/2 in L2, in both; and ||s T - s T'|| <= s c. In any order of summation,
    products fused or not, each of the n terms enters F with a relative error of at most (n u)/(1 - n u) for the sum
    (Higham 2002, Lemma 3.1 and section 4.2; u = 2^-53) and 2^-30 for the term itself; as || sum |x_i| || <= n c, F is
    off by r n c in L2, and so is F'. Together  s c + sqrt(m) + 2 r s n c,  r = n u/(1 - n u) + 2^-30.

    max_users: the most users in one tenant's sum. What the caller owes: a user's clipped vector depends on other users
    by no more than the 2^-30 in proportion that a different batch or order of float64 operations makes.
    """
    length = _scaled_clip(scale, clip)
    spread = sqrt(_at_least_one("num_coordinates", num_coordinates))
    users = _at_least_one("max_users", max_users)
    summation = users * _UNIT_ROUNDOFF
    if summation >= 0.5:
        raise CapacityExceeded(f"{users} users are more than a float64 sum can tell apart")
    relative_error = summation / (1 - summation) + _TERM_ERROR
    return _up(length + spread + 2 * relative_error * length * users)


def rounding_error_std(*, num_users: int) -> float:
    """Bound, in steps, on the standard deviation that `round_users` adds to one coordinate of a sum, redraws aside.

    A fraction f rounds up with probability f: variance f (1 - f) <= 1/4 a user, independent between users.
    """
    return sqrt(num_users) / 2


def round_users(vectors: UserVectors, *, scale: int, clip: float, num_touched: int, rng: Uniform) -> NDArray[np.int64]:
    """Sum of the users' vectors, each rounded at random to integers with the same mean, int64 (num_coordinates,).

    Every user's integer vector has an L2 norm of at most `rounded_sensitivity`, whatever `rng` gives: a rounding that
    exceeds it is drawn again (conditional stochastic rounding). `rng` must be secret: with public draws,
    leaving a user out would show in how others round, and one user's bound would not bound the difference of two sums.
    Unbiased but for the redraws, which move a user's mean by at most sqrt(BETA)/(2 (1 - BETA)) < 1 step in L2: for a
    unit u, <u, error> has variance at most 1/4, and its mean given success is E[<u, error>; failure] / P(success).
    Raises BadInput for a vector longer than `clip` or with more than `num_touched` entries off zero, CapacityExceeded
    for a sum that could leave 64 bits.
    """
    bound = rounded_sensitivity(scale=scale, clip=clip, num_touched=num_touched)
    _require_clipped(vectors, clip, num_touched)
    if vectors.num_users * (scale * clip + 1) >= 2.0**63:
        raise CapacityExceeded(f"a sum of {vectors.num_users} users at {scale} steps to the unit does not fit 64 bits")
    scaled = vectors.values * float(scale)
    rounded = _draw(scaled, rng)
    users = vectors.users()
    for _ in range(_MAX_DRAWS):
        again = _too_long(rounded, vectors.offsets, bound)[users]
        if not again.any():
            break
        rounded[again] = _draw(scaled[again], rng)
    else:
        # No honest generator comes here (0.61^64). Towards zero no norm grows; the factor covers float64 norms.
        again = _too_long(rounded, vectors.offsets, bound)[users]
        rounded[again] = np.trunc(scaled[again] * (1 - 2.0**-20)).astype(np.int64)
    total = np.zeros(vectors.num_coordinates, dtype=np.int64)
    np.add.at(total, vectors.coordinates, rounded)
    return total


def round_sum(total: NDArray[np.float64], *, scale: int) -> NDArray[np.int64]:
    """Nearest integers of `scale * total`, int64 of the same shape.

    Raises CapacityExceeded for a value that is not finite or leaves 63 bits.
    """
    scaled = total * float(_power_of_two(scale))
    if not np.all(np.abs(scaled) < 2.0**62):
        raise CapacityExceeded("a sum is not finite or does not fit 63 bits at this scale")
    return np.rint(scaled).astype(np.int64)


def choose_scale(
    *,
    bits: int,
    max_users: int,
    clip: float,
    noise_multiplier: float,
    num_noises: int,
    sensitivity: Callable[[int], float],
) -> int:
    """The largest power of two, at most 2^32, at which the cohort's noisy sum cannot wrap round in `bits` bits.

    noise_multiplier: noise_std over sensitivity of one noise, 0 for none. num_noises: independent ones in the sum.
    sensitivity: L2 in steps at a given scale. Each of `max_users` moves a coordinate by at most `scale * clip + 1`;
    the noises together stay within 12 of their standard deviations. Raises CapacityExceeded with the numbers.
    """
    room = 2 ** (bits - 1) - 1
    scale = MAX_SCALE
    need = inf
    while scale >= 1:
        # noise_std is rounded up to an integer, hence the 1.
        noise = sqrt(num_noises) * (noise_multiplier * sensitivity(scale) + 1) if num_noises else 0.0
        need = max_users * (scale * clip + 1) + NOISE_DEVIATIONS * noise
        if need <= room:
            return scale
        scale //= 2
    raise CapacityExceeded(
        f"{max_users} users with clip {clip:g} and {num_noises} noises of multiplier {noise_multiplier:g} need "
        f"{log2(need) + 1:.1f} bits even at one step to the unit; the ring has {bits}"
    )


def _draw(scaled: NDArray[np.float64], rng: Uniform) -> NDArray[np.int64]:
    # On magnitudes, where the fraction is exact: for x just below zero, x - floor(x) is not.
    magnitude = np.abs(scaled)
    whole = np.floor(magnitude)
    up = rng.random(len(scaled)) < magnitude - whole
    rounded: NDArray[np.int64] = np.copysign(whole + up, scaled).astype(np.int64)
    return rounded


def _too_long(rounded: NDArray[np.int64], offsets: NDArray[np.int64], bound: float) -> NDArray[np.bool_]:
    # bool (num_users,). A float64 sum of k squares errs by at most (k + 2) u in proportion; judged on the safe side.
    sizes = np.diff(offsets)
    squares = np.zeros(len(sizes))
    filled = sizes > 0
    if filled.any():
        squares[filled] = np.add.reduceat(np.square(rounded.astype(np.float64)), offsets[:-1][filled])
    verdict: NDArray[np.bool_] = squares * (1 + (sizes + 8) * 2 * _UNIT_ROUNDOFF) > bound * bound
    return verdict


def _require_clipped(vectors: UserVectors, clip: float, num_touched: int) -> None:
    longest = float(vectors.norms().max(initial=0.0))
    if longest > clip * (1 + 2.0**-40):
        raise BadInput(f"a user's vector has norm {longest:g}, clip it to {clip:g} before rounding")
    touched = np.bincount(vectors.users()[vectors.values != 0], minlength=vectors.num_users)
    if touched.max(initial=0) > num_touched:
        raise BadInput(f"a user's vector has {touched.max()} entries, the sensitivity counts on {num_touched}")


def _scaled_clip(scale: int, clip: float) -> float:
    if not 0 < clip < inf:
        raise BadInput(f"clip must be finite and above zero, got {clip}")
    length = _power_of_two(scale) * clip
    if length >= 2.0**62:
        raise CapacityExceeded(f"clip {clip:g} at {scale} steps to the unit does not fit 63 bits")
    return length


def _power_of_two(scale: int) -> int:
    if not 1 <= scale <= MAX_SCALE or scale & (scale - 1):
        raise BadInput(f"scale must be a power of two from 1 to 2^32, got {scale}")
    return scale


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise BadInput(f"{name} must be at least 1, got {value}")
    return value


def _up(value: float) -> float:
    # A bound may err upwards only; its few float64 operations lose less than 2^-50.
    return nextafter(value * (1 + 2.0**-50), inf)
