"""A trimmed total stays where the honest cohorts are, whatever at most `trim` others say."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.robust_sum import CohortSum, combine, trimmed_mean

SIZE = 4
values = st.integers(-(2**55), 2**55)
vectors = st.lists(values, min_size=SIZE, max_size=SIZE).map(lambda row: np.array(row, dtype=np.int64))


@st.composite
def crowds(draw, least_trim=1):
    """(honest sums, poisoned sums, trim): no more poisoned than trim, at least 2 trim + 1 in all."""
    trim = draw(st.integers(least_trim, 3))
    poisoned = draw(st.integers(0, trim))
    honest = draw(st.integers(2 * trim + 1 - poisoned, 2 * trim + 4))
    made = [
        CohortSum(
            cohort=number,
            total=draw(vectors) // (1 if number >= honest else 2**20),
            num_users=draw(st.integers(1, 1_000)),
            num_tenants=2,
            num_noises=2,
        )
        for number in range(honest + poisoned)
    ]
    return made[:honest], made[honest:], trim


@settings(max_examples=300, deadline=None)
@given(crowds())
def test_every_coordinate_of_a_trimmed_total_lies_between_those_of_honest_cohorts(crowd):
    honest, poisoned, trim = crowd
    found = combine([*poisoned, *honest], trim=trim)
    means = np.stack([each.total / each.num_users for each in honest])
    slack = 0.5 + 1e-9 * np.abs(means).max() * found.num_users
    assert np.all(found.total >= means.min(axis=0) * found.num_users - slack)
    assert np.all(found.total <= means.max(axis=0) * found.num_users + slack)


@settings(max_examples=100, deadline=None)
@given(crowds(), st.randoms(use_true_random=False))
def test_the_order_of_the_cohorts_does_not_change_the_total(crowd, random):
    honest, poisoned, trim = crowd
    sums = [*honest, *poisoned]
    before = combine(sums, trim=trim)
    random.shuffle(sums)
    after = combine(sums, trim=trim)
    np.testing.assert_array_equal(before.total, after.total)
    assert before.noise_factor == after.noise_factor or abs(before.noise_factor / after.noise_factor - 1) < 1e-12


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 3), st.integers(1, 6), st.integers(0, 2**32))
def test_the_trimmed_mean_is_that_of_a_loop_over_sorted_values(trim, more, seed):
    rows = np.random.default_rng(seed).normal(size=(2 * trim + more, 5))
    expected = [np.mean(sorted(rows[:, column])[trim : len(rows) - trim]) for column in range(5)]
    np.testing.assert_allclose(trimmed_mean(rows, trim), expected, rtol=1e-12, atol=1e-12)


def test_one_more_poisoned_cohort_than_the_trim_moves_the_total_anywhere():
    """The promise above is not an empty one: it ends exactly where it says."""
    honest = [CohortSum(cohort=n, total=np.ones(1, np.int64), num_users=1, num_tenants=2, num_noises=0) for n in (0, 1)]
    bad = [
        CohortSum(cohort=n, total=np.full(1, 10**9), num_users=1, num_tenants=2, num_noises=0) for n in (2, 3)
    ]  # fmt: skip
    assert combine([*honest, *bad], trim=1).total[0] > 10**9
