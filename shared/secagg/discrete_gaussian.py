"""Exact samples of the discrete Gaussian N_Z(0, sigma^2): P(x) proportional to exp(-x^2 / (2 sigma^2)) on the integers.

Rejection after Canonne, Kamath, Steinke 2020 ("The Discrete Gaussian for Differential Privacy", Algorithms 1-3), with
the scale t of the proposal equal to the integer sigma, which merges their two rejections into one. Propose
y = U + sigma V with U uniform on 0..sigma-1 and P(V >= v) = e^-v, so P(y) = (1 - 1/e) e^-V / sigma. Accept with
probability exp(-E), E = (sigma^2 (V - 1)^2 + U (2 sigma V + U)) / (2 sigma^2): as E = y^2 / (2 sigma^2) - V + 1/2,
what is accepted has a probability proportional to exp(-y^2 / (2 sigma^2)) on y >= 0. A random sign, with minus zero
rejected, makes it symmetric without counting zero twice. About 2.1 proposals a sample.

Exactness. Both random decisions compare a uniform real in [0, 1), known by its first 53 bits, with an exponential.
Float64 decides only where it is certain: all its errors, those of numpy's exp and log included, are far below the
margins of 2^-35. What is left, about one draw in 100,000, goes to `exact_comparison`, which draws more bits of the
same real and encloses the exponential in integers until the two differ. So no value comes out with a wrong
probability: the output is exact for truly random words, and here as good as the AES-256-CTR stream that expands 32
bytes of the operating system's. How long a sample takes depends on the proposals rejected before it, which tell nothing
about it, and on the rare exact comparisons.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadSetting
from shared.secagg.exact_comparison import UniformReal
from shared.secagg.prg import Keystream

MAX_NOISE_STD = 2**48
Words = Callable[[int], NDArray[np.uint64]]

_PREFIX_BITS = 53
_UNIT = 2.0**-_PREFIX_BITS
_MARGIN = 2.0**-35
# The 53 bits known leave the logarithm open by 2^-53 / prefix; below this that nears the margin.
_LEAST_CERTAIN = 2.0**-17
_CHUNK = 32 * 1024
_PROPOSALS_PER_SAMPLE = 2.12


def sample(noise_std: int, size: int, random_bytes: Callable[[int], bytes]) -> NDArray[np.int64]:
    """`size` independent samples, int64 (size,).

    noise_std: sigma in steps, an integer from 1 to 2^48; raises BadSetting for another.
    random_bytes: asked once for 32 bytes, e.g. os.urandom.
    """
    stream = Keystream(random_bytes(32))
    return sample_from(noise_std, size, lambda count: np.frombuffer(stream.read(8 * count), dtype="<u8"))


def sample_from(noise_std: int, size: int, words: Words) -> NDArray[np.int64]:
    """As `sample`, from `words(count)`: so many independent uniform 64-bit integers."""
    if not 1 <= noise_std <= MAX_NOISE_STD:
        raise BadSetting(f"noise_std must be an integer from 1 to 2^48, got {noise_std}")
    result = np.empty(size, dtype=np.int64)
    filled = 0
    while filled < size:
        wanted = min(_CHUNK, int((size - filled) * _PROPOSALS_PER_SAMPLE) + 64)
        found = _propose(noise_std, wanted, words)[: size - filled]
        result[filled : filled + len(found)] = found
        filled += len(found)
    return result


def _propose(sigma: int, count: int, words: Words) -> NDArray[np.int64]:
    # The accepted ones of `count` proposals, in order.
    remainder = uniform_below(sigma, count, words)
    multiple = geometric(words(count), words)
    accepted = _accept(sigma, remainder, multiple, words(count), words)
    magnitude = (remainder + sigma * multiple)[accepted]
    negative = (words(len(magnitude)) >> np.uint64(63)).astype(bool)
    signed = np.where(negative, -magnitude, magnitude)
    kept: NDArray[np.int64] = signed[~(negative & (magnitude == 0))]
    return kept


def uniform_below(bound: int, count: int, words: Words) -> NDArray[np.int64]:
    """`count` independent uniform integers from 0 to bound - 1, exactly; int64."""
    # Words from the last, incomplete run of `bound` values are drawn again, or small remainders would be favoured.
    drawn = words(count).copy()
    largest = 2**64 - 1 - 2**64 % bound
    while True:
        outside = drawn > np.uint64(largest)
        if not outside.any():
            remainder: NDArray[np.int64] = (drawn % np.uint64(bound)).astype(np.int64)
            return remainder
        drawn[outside] = words(int(outside.sum()))


def geometric(drawn: NDArray[np.uint64], words: Words) -> NDArray[np.int64]:
    """V with P(V >= v) = e^-v, exactly, one for each uniform word drawn; int64. words: for what these leave open."""
    # V = floor(-ln R) for R uniform in [0, 1): P(V >= v) = P(R <= e^-v) = e^-v.
    prefix = drawn >> np.uint64(64 - _PREFIX_BITS)
    low = prefix.astype(np.float64) * _UNIT
    logarithm = -np.log(np.maximum(low, _UNIT))
    result = np.floor(logarithm).astype(np.int64)
    uncertain = (np.abs(logarithm - np.rint(logarithm)) < _MARGIN) | (low < _LEAST_CERTAIN)
    for index in np.flatnonzero(uncertain):
        result[index] = _exact_geometric(int(prefix[index]), words)
    return result


def _exact_geometric(prefix: int, words: Words) -> int:
    real = UniformReal(prefix=prefix, bits=_PREFIX_BITS, more=_word_by_word(words))
    value = 0
    while real.is_below_exp(value + 1, 1):
        value += 1
    return value


def _accept(
    sigma: int, remainder: NDArray[np.int64], multiple: NDArray[np.int64], drawn: NDArray[np.uint64], words: Words
) -> NDArray[np.bool_]:
    prefix = drawn >> np.uint64(64 - _PREFIX_BITS)
    low = prefix.astype(np.float64) * _UNIT
    # ((V - 1)^2 + f (2 V + f)) / 2 with f = U / sigma: no term is negative, so nothing cancels.
    fraction, whole = remainder / sigma, multiple.astype(np.float64)
    chance = np.exp(-0.5 * (np.square(whole - 1) + fraction * (2 * whole + fraction)))
    accepted = low + _UNIT <= chance - _MARGIN * (chance + _MARGIN)
    uncertain = ~accepted & (low < chance + _MARGIN * (chance + _MARGIN))
    for index in np.flatnonzero(uncertain):
        real = UniformReal(prefix=int(prefix[index]), bits=_PREFIX_BITS, more=_word_by_word(words))
        accepted[index] = real.is_below_exp(*_exponent(sigma, int(remainder[index]), int(multiple[index])))
    return accepted


def _exponent(sigma: int, remainder: int, multiple: int) -> tuple[int, int]:
    # E as a fraction of integers.
    return sigma * sigma * (multiple - 1) ** 2 + remainder * (2 * sigma * multiple + remainder), 2 * sigma * sigma


def _word_by_word(words: Words) -> Callable[[], int]:
    return lambda: int(words(1)[0])
