"""The noise: exact, from operating-system randomness, and fast enough never to be turned down."""

import os
import time
from collections.abc import Callable, Iterable
from decimal import Decimal, localcontext
from math import exp, floor, pi, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from shared.errors import BadSetting
from shared.secagg import discrete_gaussian
from shared.secagg.discrete_gaussian import sample
from shared.secagg.exact_comparison import UniformReal, enclose_exp
from shared.secagg.prg import Keystream


def source(seed: int) -> Callable[[int], bytes]:
    return Keystream(seed.to_bytes(32, "big")).read


def fit(samples: NDArray[np.int64], sigma: float) -> float:
    """The p-value of a chi-square test against the exact probabilities of N_Z(0, sigma^2)."""
    reach = floor(4.5 * sigma) + 1
    support = np.arange(-12 * reach, 12 * reach + 1)
    probability = np.exp(-(support**2) / (2 * sigma**2))
    probability /= probability.sum()
    edge = np.clip(support, -reach, reach)
    expected = np.bincount(edge + reach, weights=probability) * len(samples)
    seen = np.bincount(np.clip(samples, -reach, reach) + reach, minlength=2 * reach + 1)
    keep = expected >= 5
    expected, seen = np.append(expected[keep], expected[~keep].sum()), np.append(seen[keep], seen[~keep].sum())
    if expected[-1] < 5:
        expected, seen = np.append(expected[:-2], expected[-2:].sum()), np.append(seen[:-2], seen[-2:].sum())
    return float(stats.chisquare(seen, expected).pvalue)


@pytest.mark.parametrize("sigma", [1, 2, 3, 7])
def test_the_frequencies_are_those_of_the_discrete_gaussian(sigma: int) -> None:
    assert fit(sample(sigma, 400_000, source(sigma)), sigma) > 1e-3


@pytest.mark.parametrize("sigma", [2, 4])
def test_the_fit_test_notices_half_the_noise(sigma: int) -> None:
    assert fit(sample(sigma // 2, 20_000, source(1)), sigma) < 1e-30


def test_the_fit_test_notices_a_rounded_continuous_gaussian() -> None:
    rounded = np.rint(np.random.default_rng(5).normal(0, 1, 400_000)).astype(np.int64)
    assert fit(rounded, 1) < 1e-30


@pytest.mark.parametrize("sigma", [100_000, 2**48])
def test_wide_noise_has_the_moments_the_tails_and_the_shape(sigma: int) -> None:
    size = 400_000
    unit = sample(sigma, size, source(sigma)) / sigma
    assert abs(unit.mean()) < 4 / sqrt(size)
    assert abs(unit.var() - 1) < 4 * sqrt(2 / size)
    assert abs((unit**3).mean()) < 4 * sqrt(15 / size)
    assert abs((unit**4).mean() - 3) < 4 * sqrt(96 / size)
    for deviations in (2, 3, 4):
        share = 2 * stats.norm.sf(deviations)
        assert abs((np.abs(unit) > deviations).mean() - share) < 4 * sqrt(share / size)
    assert stats.kstest(unit, "norm").pvalue > 1e-3
    assert stats.kstest(unit[:20_000] / 2, "norm").pvalue < 1e-30


def test_low_digits_of_wide_noise_are_uniform_and_samples_do_not_depend_on_their_neighbours() -> None:
    samples = sample(100_000, 200_000, source(8))
    assert stats.chisquare(np.bincount(samples % 16, minlength=16)).pvalue > 1e-3
    assert abs(np.corrcoef(samples[:-1], samples[1:])[0, 1]) < 4 / sqrt(len(samples))


def test_a_million_samples_take_well_under_a_second() -> None:
    times = []
    for _ in range(3):
        start = time.process_time()
        sample(100_000, 1_000_000, os.urandom)
        times.append(time.process_time() - start)
    assert min(times) < 1.0


@pytest.mark.parametrize("size", [0, 1, 2, 1_000, 32 * 1024 + 1])
def test_any_number_of_samples_can_be_asked_for(size: int) -> None:
    samples = sample(5, size, source(size))
    assert samples.dtype == np.int64
    assert samples.shape == (size,)


def test_the_caller_is_asked_for_32_bytes_and_other_bytes_give_other_noise() -> None:
    asked: list[int] = []

    def recording(size: int) -> bytes:
        asked.append(size)
        return os.urandom(size)

    first, second = (sample(1_000, 100, recording) for _ in range(2))
    assert asked == [32, 32]
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("sigma", [0, -1, 2**48 + 1])
def test_a_deviation_out_of_range_is_refused(sigma: int) -> None:
    with pytest.raises(BadSetting):
        sample(sigma, 1, os.urandom)


# --- the exact path ---


@pytest.mark.parametrize("sigma", [1, 2, 3, 1_000, 2**40])
def test_float_decisions_are_those_of_exact_arithmetic(sigma: int, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = sample(sigma, 3_000, source(11))
    exact_calls = count_exact_comparisons(monkeypatch)
    monkeypatch.setattr(discrete_gaussian, "_MARGIN", 2.0)
    exact = sample(sigma, 3_000, source(11))
    assert exact_calls() > 9_000  # two decisions for each of over two proposals a sample, both by integers now
    assert np.array_equal(quick, exact)


def count_exact_comparisons(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    made: list[int] = []

    class Counting(UniformReal):
        def __init__(self, *, prefix: int, bits: int, more: Callable[[], int]) -> None:
            made.append(1)
            super().__init__(prefix=prefix, bits=bits, more=more)

    monkeypatch.setattr(discrete_gaussian, "UniformReal", Counting)
    return lambda: len(made)


def scripted(words: Iterable[int]) -> discrete_gaussian.Words:
    remaining = list(words)

    def take(count: int) -> NDArray[np.uint64]:
        taken, remaining[:count] = remaining[:count], []
        # Past the script: words that reject every further proposal quickly do not matter, any will do.
        return np.array(taken + [2**63 + 12345] * (count - len(taken)), dtype=np.uint64)

    return take


def exp_of_minus(numerator: int, denominator: int, bits: int) -> int:
    """floor(2^bits exp(-numerator/denominator)) by correctly rounded decimal arithmetic, the oracle."""
    with localcontext() as context:
        context.prec = bits
        return int((-Decimal(numerator) / Decimal(denominator)).exp() * Decimal(2) ** bits)


@pytest.mark.parametrize(
    ("sigma", "remainder", "multiple"), [(1, 0, 0), (3, 2, 1), (1_000, 999, 0), (100_000, 31_415, 2)]
)
@pytest.mark.parametrize("further", [-1, 0, 1])
def test_an_undecided_acceptance_is_decided_by_the_next_bits(
    sigma: int, remainder: int, multiple: int, further: int
) -> None:
    numerator = sigma * sigma * (multiple - 1) ** 2 + remainder * (2 * sigma * multiple + remainder)
    known = exp_of_minus(numerator, 2 * sigma * sigma, 53)
    border = exp_of_minus(numerator, 2 * sigma * sigma, 117) - (known << 64)
    geometric = int(exp(-(multiple + 0.5)) * 2**64)
    script = [remainder, geometric, known << 11, border + further, 2**63 - 1 if further == 0 else 0, 0]
    words = scripted(script)
    # At further = 0 even 117 bits leave it open; 181 do not.
    finer = exp_of_minus(numerator, 2 * sigma * sigma, 181) - (((known << 64) + border) << 64)
    accepted = further < 0 or (further == 0 and finer > 2**63 - 1)
    result = discrete_gaussian._propose(sigma, 1, words)
    assert (len(result) == 1) == accepted
    if accepted:
        assert result[0] == remainder + sigma * multiple


@pytest.mark.parametrize("value", [1, 2, 5, 11])
def test_an_undecided_multiple_is_decided_by_the_next_bits(value: int) -> None:
    known = exp_of_minus(value, 1, 53)
    border = exp_of_minus(value, 1, 117) - (known << 64)
    for next_word, expected in ((border - 1, value), (border + 1, value - 1)):
        drawn = np.array([known << 11], dtype=np.uint64)
        assert discrete_gaussian.geometric(drawn, scripted([next_word]))[0] == expected


def test_the_smallest_and_the_largest_words_are_decided_too() -> None:
    drawn = np.array([0, 2**64 - 1], dtype=np.uint64)
    far = int(discrete_gaussian.geometric(drawn[:1], scripted([0, 1 << 20]))[0])
    assert exp_of_minus(far, 1, 181) >= 1 << 20 > exp_of_minus(far + 1, 1, 181)
    assert discrete_gaussian.geometric(drawn[1:], scripted([]))[0] == 0


@pytest.mark.parametrize("sigma", [3, 5, 100_000, 2**48 - 1])
def test_words_of_the_last_incomplete_run_are_drawn_again(sigma: int) -> None:
    biased = 2**64 - 1
    assert biased >= 2**64 // sigma * sigma
    drawn = discrete_gaussian.uniform_below(sigma, 3, scripted([sigma + 1, biased, 2**64 // sigma * sigma - 1, 7]))
    assert drawn.tolist() == [1, 7 % sigma, sigma - 1]


def test_a_power_of_two_wastes_no_word() -> None:
    assert discrete_gaussian.uniform_below(4, 2, scripted([2**64 - 1, 2**64 - 4])).tolist() == [3, 0]


@pytest.mark.parametrize("bits", [1, 53, 117, 500])
@pytest.mark.parametrize(
    ("numerator", "denominator"), [(0, 1), (1, 10**12), (1, 3), (1, 1), (2, 1), (355, 113), (40, 1), (10**6, 7)]
)
def test_the_enclosure_holds_the_oracle_and_is_narrow(numerator: int, denominator: int, bits: int) -> None:
    low, high = enclose_exp(numerator, denominator, bits)
    value = exp_of_minus(numerator, denominator, max(bits, 60)) >> max(0, 60 - bits)
    assert low <= value <= high
    assert high - low <= 2


def test_zero_exponent_is_certain() -> None:
    assert UniformReal(prefix=2**53 - 1, bits=53, more=lambda: 2**64 - 1).is_below_exp(0, 1)


def test_an_exact_sampler_of_another_design_agrees() -> None:
    # Canonne, Kamath, Steinke 2020, Algorithms 1 to 3 word for word, slow, from another source of randomness.
    slow = np.array([reference_sample(2, np.random.default_rng(index)) for index in range(4_000)])
    mine = sample(2, 100_000, source(21))
    reach = 6
    table = [np.bincount(np.clip(each, -reach, reach) + reach, minlength=2 * reach + 1) for each in (slow, mine)]
    used = np.sum(table, axis=0) > 100
    assert stats.chi2_contingency([row[used] for row in table]).pvalue > 1e-3


def reference_sample(sigma: int, rng: np.random.Generator) -> int:
    def bernoulli_exp(x: float) -> bool:
        if x > 1:
            return bernoulli_exp(1.0) and bernoulli_exp(x - 1)
        k = 1
        while rng.random() < x / k:
            k += 1
        return k % 2 == 1

    t = sigma + 1
    while True:
        u = int(rng.integers(t))
        if not bernoulli_exp(u / t):
            continue
        v = 0
        while bernoulli_exp(1.0):
            v += 1
        y = u + t * v
        negative = rng.random() < 0.5
        if negative and y == 0:
            continue
        if bernoulli_exp((y - sigma * sigma / t) ** 2 / (2 * sigma * sigma)):
            return -y if negative else y


def test_the_acceptance_rate_is_the_one_that_the_derivation_gives() -> None:
    stream = Keystream(bytes(32))
    found = discrete_gaussian._propose(1_000, 200_000, lambda n: np.frombuffer(stream.read(8 * n), dtype="<u8"))
    expected = (1 - exp(-1)) * exp(-0.5) * sqrt(pi / 2)
    assert abs(len(found) / 200_000 - expected) < 0.005
