"""What one masked vector tells about which items its client touched: nothing; and the test can tell.

The adversary is the server. It sees a masked vector and must say, for coordinates of which half carry a large value and
half carry zero, which is which. It tries every statistic it has, and, where masks are weak, their structure.
"""

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from shared.secagg import ring
from tests.secagg_cast import Round, random_bytes

SIZE = 4_096
TOUCHED_VALUE = 3_000
BITS = 16
SEED_BITS = 28
# The weak generator's seed lies within so many guesses; 2^28 would only take the adversary longer.
GUESSES = 400


def histories(seed: int) -> NDArray[np.bool_]:
    touched = np.zeros(SIZE, dtype=bool)
    touched[np.random.default_rng(seed).permutation(SIZE)[: SIZE // 2]] = True
    return touched


def strong(values: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    the_round = Round(num_coordinates=SIZE, bits=BITS)
    sent = the_round.contribution("amber", values, random_bytes=random_bytes(seed)).masked
    return ring.decode(ring.unpack(sent, BITS, SIZE), BITS)


def zero(values: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    return values


def mersenne(values: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    guess = 2**SEED_BITS - GUESSES + seed % GUESSES
    return ring.decode(ring.reduce(values - mersenne_mask(guess), BITS), BITS)


def mersenne_mask(seed: int) -> NDArray[np.int64]:
    return np.random.RandomState(seed).randint(0, 2**BITS, SIZE, dtype=np.int64)


def guesses(masked: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Scores that ought to be higher at touched coordinates: the values as they are, and unmasked by every guess."""
    plain = masked.astype(float)
    scores = [plain, np.abs(plain), -np.abs(plain - TOUCHED_VALUE), -np.abs(plain - np.median(plain))]
    for seed in range(2**SEED_BITS - GUESSES, 2**SEED_BITS):
        unmasked = ring.decode(ring.reduce(masked + mersenne_mask(seed), BITS), BITS)
        if np.abs(unmasked).mean() < 2**BITS / 8:  # uniform values have a mean of 2^bits / 4
            scores.append(unmasked.astype(float))
    return scores


def best_accuracy(mask: Callable[[NDArray[np.int64], int], NDArray[np.int64]], trials: int) -> float:
    """Mean share of coordinates that the best score puts on the right side, each score used for all trials."""
    found: list[list[float]] = []
    for trial in range(trials):
        touched = histories(trial)
        values = np.where(touched, TOUCHED_VALUE, 0).astype(np.int64)
        shares = []
        for score in guesses(mask(values, trial)):
            order = np.argsort(score, kind="stable")
            said = np.zeros(SIZE, dtype=bool)
            said[order[SIZE // 2 :]] = True
            shares.append(float((said == touched).mean()))
        # What structure gives beyond the four plain scores counts as one more.
        found.append([*shares[:4], max(shares[4:], default=0.5)])
    return float(np.mean(found, axis=0).max())


def test_guessing_the_touched_items_from_a_masked_vector_is_at_chance() -> None:
    trials = 12
    deviation = 0.5 / sqrt(SIZE * trials)
    assert best_accuracy(strong, trials) < 0.5 + 4.5 * deviation


@pytest.mark.parametrize("weak", [zero, mersenne])
def test_the_same_adversary_reads_histories_through_weak_masks(
    weak: Callable[[NDArray[np.int64], int], NDArray[np.int64]],
) -> None:
    assert best_accuracy(weak, 2) > 0.99


@pytest.mark.parametrize("bits", ring.WIDTHS)
def test_a_masked_vector_is_uniform_and_unlike_its_values_in_every_byte(bits: int) -> None:
    the_round = Round(num_coordinates=20_000, bits=bits)
    sent = the_round.contribution("amber", np.full(20_000, 77), random_bytes=random_bytes(4)).masked
    columns = np.frombuffer(sent, dtype=np.uint8).reshape(-1, bits // 8)
    for column in columns.T:
        assert stats.chisquare(np.bincount(column, minlength=256)).pvalue > 1e-4


def test_the_uniformity_test_notices_a_missing_mask() -> None:
    plain = np.frombuffer(ring.pack(ring.encode(np.full(20_000, 77), 32), 32), dtype=np.uint8).reshape(-1, 4)
    assert all(stats.chisquare(np.bincount(column, minlength=256)).pvalue < 1e-30 for column in plain.T)


def test_two_contributions_of_equal_values_share_nothing() -> None:
    the_round = Round(num_coordinates=4_096, bits=64)
    first, second = (
        the_round.contribution("amber", np.ones(4_096), random_bytes=random_bytes(seed)).masked for seed in (1, 2)
    )
    same_bits = np.unpackbits(np.frombuffer(bytes(a ^ b for a, b in zip(first, second, strict=True)), dtype=np.uint8))
    assert abs(same_bits.mean() - 0.5) < 4 * 0.5 / sqrt(len(same_bits))


def test_one_helpers_masks_alone_do_not_open_a_contribution() -> None:
    # The server and one helper collude: what is left is still masked by the other one.
    the_round = Round(num_coordinates=4_096, bits=32)
    contributions = [the_round.contribution(name, np.zeros(4_096)) for name in ("amber", "birch")]
    north = the_round.answer("north", [each.header() for each in contributions]).mask_sum
    vectors = [ring.unpack(each, 32, 4_096) for each in (*(part.masked for part in contributions), north)]
    left = (vectors[0] + vectors[1] + vectors[2]).view(np.uint8)
    assert stats.chisquare(np.bincount(left, minlength=256)).pvalue > 1e-4
