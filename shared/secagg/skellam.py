"""Exact samples of the symmetric Skellam law: the difference of two Poisson variables of equal mean.

The sum of independent Skellam variables is one too, and variances add; so n parties can each add a part of the noise
that their sum shall have (Agarwal, Kairouz, Liu 2021, "The Skellam Mechanism for Differentially Private Federated
Learning"). Discrete Gaussians do not add up like that.

**Poisson with an integer mean m, by rejection.** Let p(y) = P(m + y) / P(m) and s = isqrt(m) + 1. Propose a magnitude
U + s V with U uniform on 0..s-1 and P(V >= v) = e^-v, with probability (1 - 1/e) e^-V / s, and a sign; minus zero is
rejected. Accept y with probability p(y) e^(V - c). That is a probability, p(y) e^V <= e^c, for

    c = 1/2 + max((r+1)(r+2)(2r+3) / (12 r^4), 1/(2r) + 1/(8 r^2)),   r = isqrt(m):

- y > 0: ln p(y) = -sum_{i<=y} ln(1 + i/m) and V <= y/s. The ratio of p(y+1) e^((y+1)/s) to p(y) e^(y/s) is
  e^(1/s) m / (m + y + 1), so the greatest value is at a y <= m (e^(1/s) - 1) <= m (1/s + 1/s^2) <= r' + 1, r' = sqrt m.
  As ln(1 + x) >= x - x^2/2, there y/s + ln p(y) <= y/s - y^2/(2m) + y(y+1)(2y+1)/(12 m^2), where the first two terms
  are at most m/(2 s^2) <= 1/2 and the last grows with y; both bounds fall as r' grows, and r <= r'.
- y = -k < 0: ln p(y) = sum_{i<k} ln(1 - i/m) <= -k(k-1)/(2m), so k/s + ln p(y) <= m (1/s + 1/(2m))^2 / 2
  <= 1/2 + 1/(2r') + 1/(8 r'^2).

**Exactness.** V and U are exact (`discrete_gaussian`). Acceptance compares a uniform real, known by its first 53 bits,
with p(y) e^(V - c): float64 decides only outside a margin of 2^-35 in proportion, far above its errors, about one draw
in 2^34 remains, and `_enclose` settles it in exact integers and decimals of growing precision. So no value comes out
with a wrong probability; there is no distance to the Skellam law to be added to delta.
"""

from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache, partial
from math import ceil, isqrt, prod

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadSetting
from shared.secagg.discrete_gaussian import Words, geometric, uniform_below
from shared.secagg.exact_comparison import UniformReal, enclose_exp
from shared.secagg.prg import Keystream

MAX_VARIANCE = 2**90
_PREFIX_BITS = 53
_UNIT = 2.0**-_PREFIX_BITS
_MARGIN = 2.0**-35
_CHUNK = 32 * 1024
_PROPOSALS_PER_SAMPLE = 2.2
# (1 + x) ln(1 + x) - x = sum over n >= 2 of (-x)^n / (n (n - 1)); below 1/16 what follows is less than 2^-70 of it.
_SERIES_BELOW = 1 / 16
_SERIES = tuple((-1) ** n / (n * (n - 1)) for n in range(2, 20))
_TABLE_BELOW = 2_000
# From here on Stirling's series encloses a logarithm to 2^-320, further than the bits of any real are ever drawn: 320
# bits leave a comparison open with probability 2^-310.
_STIRLING_FROM = 2**19
_STIRLING = ((1, 12), (-1, 360), (1, 1260), (-1, 1680), (1, 1188), (-691, 360360), (1, 156), (-3617, 122400))


def sample(variance: int, size: int, random_bytes: Callable[[int], bytes]) -> NDArray[np.int64]:
    """`size` independent samples of mean 0, int64 (size,).

    variance: in steps squared, even, from 2 to 2^90; raises BadSetting for another.
    random_bytes: asked once for 32 bytes, e.g. os.urandom.
    """
    stream = Keystream(random_bytes(32))
    return sample_from(variance, size, lambda count: np.frombuffer(stream.read(8 * count), dtype="<u8"))


def sample_from(variance: int, size: int, words: Words) -> NDArray[np.int64]:
    """As `sample`, from `words(count)`: so many independent uniform 64-bit integers."""
    if not 2 <= variance <= MAX_VARIANCE or variance % 2:
        raise BadSetting(f"the variance must be an even integer from 2 to 2^90, got {variance}")
    mean = variance // 2
    return _centred_poisson(mean, size, words) - _centred_poisson(mean, size, words)


def share_of_variance(total: float, min_honest: int) -> int:
    """The variance that each of at least `min_honest` honest parties adds so that their sum has `total` or more."""
    if not 0 < total <= MAX_VARIANCE or min_honest < 1:
        raise BadSetting(f"a variance of {total} cannot be shared by {min_honest} parties")
    # In integers: a quotient of floats could fall short by its rounding.
    numerator, denominator = float(total).as_integer_ratio()
    return 2 * -(-numerator // (2 * min_honest * denominator))


def _centred_poisson(mean: int, size: int, words: Words) -> NDArray[np.int64]:
    # Poisson minus its mean, which may be beyond 64 bits when the difference is not.
    result = np.empty(size, dtype=np.int64)
    filled = 0
    while filled < size:
        wanted = min(_CHUNK, int((size - filled) * _PROPOSALS_PER_SAMPLE) + 64)
        found = _propose(mean, wanted, words)[: size - filled]
        result[filled : filled + len(found)] = found
        filled += len(found)
    return result


def _propose(mean: int, count: int, words: Words) -> NDArray[np.int64]:
    # The accepted ones of `count` proposals, in order.
    width = isqrt(mean) + 1
    multiple = geometric(words(count), words)
    magnitude = uniform_below(width, count, words) + width * multiple
    drawn = words(count)
    # The low bit gives the sign; acceptance reads the high 53.
    negative = (drawn & np.uint64(1)).astype(bool)
    offset = np.where(negative, -magnitude, magnitude)
    possible = ~(negative & (magnitude == 0))
    if mean < 2**62:
        possible &= offset >= -mean
    offset, multiple, drawn = offset[possible], multiple[possible], drawn[possible]
    accepted: NDArray[np.int64] = offset[_accept(mean, offset, multiple, drawn, words)]
    return accepted


def _accept(
    mean: int, offset: NDArray[np.int64], multiple: NDArray[np.int64], drawn: NDArray[np.uint64], words: Words
) -> NDArray[np.bool_]:
    prefix = drawn >> np.uint64(64 - _PREFIX_BITS)
    low = prefix.astype(np.float64) * _UNIT
    logarithm, certain = _log_ratio(mean, offset)
    chance = np.exp(np.minimum(logarithm + (multiple - float(_bound(mean))), 0.0))
    accepted = certain & (low + _UNIT <= chance - _MARGIN * (chance + _MARGIN))
    uncertain = ~accepted & (~certain | (low < chance + _MARGIN * (chance + _MARGIN)))
    for index in np.flatnonzero(uncertain):
        real = UniformReal(prefix=int(prefix[index]), bits=_PREFIX_BITS, more=lambda: int(words(1)[0]))
        accepted[index] = real.is_below(partial(_enclose, mean, int(offset[index]), int(multiple[index])))
    return accepted


@lru_cache(maxsize=64)
def _bound(mean: int) -> Fraction:
    r = isqrt(mean)
    right = Fraction((r + 1) * (r + 2) * (2 * r + 3), 12 * r**4)
    left = Fraction(4 * r + 1, 8 * r * r)
    return Fraction(1, 2) + max(right, left)


def _log_ratio(mean: int, offset: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """ln p(offset), off by less than 2^-37 wherever it is above -40, and where that can be relied on.

    Below -40 the probability is so far under the least prefix that its digits do not matter.
    """
    if mean >= _TABLE_BELOW:
        return _log_ratio_by_saddle_point(mean, offset)
    # Sums from the centre outwards, small where it matters: at most some hundred terms, together below 40.
    steps = np.arange(max(mean, int(np.max(offset, initial=0))) + 1)
    above = -np.cumsum(np.log1p(steps / mean))
    below = np.concatenate([[0.0], np.cumsum(np.log1p(-steps[:mean] / mean))])
    return np.where(offset < 0, below[np.maximum(-offset, 0)], above[np.maximum(offset, 0)]), np.ones(len(offset), bool)


def _log_ratio_by_saddle_point(mean: int, offset: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """-mean phi(x) - ln(1 + x)/2 + t(mean) - t(mean + offset) with x = offset/mean, phi(x) = (1 + x) ln(1 + x) - x.

    t is what Stirling's formula lacks; Loader 2000 ("Fast and Accurate Computation of Binomial Probabilities"). No
    difference of large numbers is taken. Far on the left, where a sample as good as never falls, it is not relied on.
    """
    big, y = float(mean), offset.astype(np.float64)
    certain = y >= -big / 2
    y = np.where(certain, y, 0.0)
    x = y / big
    series = np.zeros_like(x)
    for coefficient in reversed(_SERIES):
        series = series * x + coefficient
    logarithm = np.log1p(x)
    divergence = np.where(np.abs(x) < _SERIES_BELOW, y * x * series, big * ((1 + x) * logarithm - x))
    inverse = 1 / (big + y)
    stirling = (1 / big - inverse) / 12 - (big**-3 - inverse**3) / 360
    return stirling - divergence - 0.5 * logarithm, certain


def _enclose(mean: int, offset: int, multiple: int, bits: int) -> tuple[int, int]:
    """Integers around 2^bits p(offset) e^(multiple - c), a few units apart."""
    if min(mean, mean + offset) >= _STIRLING_FROM:
        return _enclose_by_stirling(mean, offset, multiple - _bound(mean), bits)
    return _enclose_by_product(mean, offset, multiple - _bound(mean), bits)


def _enclose_by_product(mean: int, offset: int, power: Fraction, bits: int) -> tuple[int, int]:
    # p is a quotient of integers; e^power is at most 2^(2 power), hence the bits more.
    if offset >= 0:
        above, below = mean**offset, prod(range(mean + 1, mean + offset + 1))
    else:
        above, below = prod(range(mean + offset + 1, mean + 1)), mean**-offset
    fine = bits + 64 + 4 * max(0, ceil(power))
    low, high = enclose_exp(abs(power.numerator), power.denominator, fine)
    if power > 0:
        low, high = (1 << 2 * fine) // high, (1 << 2 * fine) // low + 1
    shift = fine - bits
    return low * above // below >> shift, (high * above // below + 1 >> shift) + 1


def _enclose_by_stirling(mean: int, offset: int, power: Fraction, bits: int) -> tuple[int, int]:
    # ln p = -(k + 1/2) ln(k/mean) + offset + t(mean) - t(k). The logarithm is rounded correctly, its argument too.
    k = mean + offset
    digits = bits // 3 + 2 * len(str(k + mean)) + 20
    arithmetic = Context(prec=digits)
    logarithm = Fraction(arithmetic.ln(arithmetic.divide(Decimal(k), Decimal(mean))))
    value = power + offset - (k + Fraction(1, 2)) * logarithm + _stirling(mean) - _stirling(k)
    error = Fraction((k + mean) * 8, 10**digits) + sum(Fraction(1, 5 * each**17) for each in (mean, k))
    least, most = value - error, min(value + error, Fraction(0))
    low = enclose_exp(-least.numerator, least.denominator, bits)[0]
    high = enclose_exp(-most.numerator, most.denominator, bits)[1]
    return low, high


def _stirling(k: int) -> Fraction:
    # The series envelops: what is left out is below the first term left out, 43867 / (244188 k^17).
    return sum((Fraction(a, b * k ** (2 * j + 1)) for j, (a, b) in enumerate(_STIRLING)), Fraction(0))
