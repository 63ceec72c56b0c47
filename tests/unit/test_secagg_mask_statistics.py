"""What one masked vector tells about which items its client touched: nothing; and the test can tell.

The adversary is the server, as in `simulations.auditing.masks`.
"""

from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from shared.secagg import ring
from simulations.auditing.masks import Masking, guessable_mask, infer_touched, masked_by_product, no_mask
from tests.secagg_cast import Round, random_bytes


def repeatable(values: NDArray[np.int64], trial: int) -> NDArray[np.int64]:
    """The product's masks from seeds that a test can repeat."""
    return masked_by_product(values, random_bytes(trial))


def test_guessing_the_touched_items_from_a_masked_vector_is_at_chance() -> None:
    seen = infer_touched(repeatable, trials=32)
    assert seen.interval.low <= 0.5 <= seen.interval.high
    assert seen.interval.high - seen.interval.low < 0.03


@pytest.mark.parametrize("weak", [no_mask, guessable_mask])
def test_the_same_adversary_reads_histories_through_weak_masks(weak: Masking) -> None:
    seen = infer_touched(weak, trials=32)
    assert seen.auc > 0.99
    assert seen.interval.low > 0.5


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
