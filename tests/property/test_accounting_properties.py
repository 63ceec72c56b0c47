"""What holds for any releases and any users."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from shared.accounting import epsilon
from shared.clipping import UserVectors, clip_users
from shared.mechanism import DiscreteGaussian, Gaussian, Mechanism

gaussians = st.builds(Gaussian, noise_std=st.floats(0.1, 100), sensitivity=st.floats(0.01, 10))
discrete_gaussians = st.builds(
    DiscreteGaussian,
    noise_std=st.integers(1, 2**24),
    sensitivity=st.floats(0.5, 2**20),
    num_coordinates=st.integers(1, 10**6),
)
releases = st.lists(gaussians | discrete_gaussians, max_size=6)


@settings(max_examples=60, deadline=None)
@given(spent=releases, another=gaussians | discrete_gaussians, delta=st.sampled_from([1e-9, 1e-6, 1e-3]))
def test_one_more_release_never_lowers_the_total(spent: list[Mechanism], another: Mechanism, delta: float) -> None:
    before, after = epsilon(spent, delta), epsilon([*spent, another], delta)
    assert after >= before * (1 - 1e-12)


@settings(max_examples=60, deadline=None)
@given(spent=releases)
def test_a_smaller_delta_never_costs_less(spent: list[Mechanism]) -> None:
    assume(spent)
    costs = [epsilon(spent, delta) for delta in (1e-3, 1e-5, 1e-7, 1e-10)]
    assert all(small <= large * (1 + 1e-12) for small, large in pairwise(costs))


@given(
    users=st.lists(
        st.dictionaries(st.integers(0, 50), st.floats(allow_nan=False, allow_infinity=False), max_size=12), max_size=6
    ),
    bound=st.floats(1e-6, 1e6),
)
@example(users=[{0: 1.7976931346109362e308}], bound=0.0625)
@example(users=[{0: 1.7e308, 1: 1.7e308}, {3: 5e-324}], bound=1.0)
def test_a_clipped_users_exact_norm_is_within_the_bound(users: list[dict[int, float]], bound: float) -> None:
    vectors = UserVectors(
        num_coordinates=51,
        offsets=np.cumsum([0, *map(len, users)], dtype=np.int64),
        coordinates=np.array([key for user in users for key in user], dtype=np.int64),
        values=np.array([value for user in users for value in user.values()], dtype=np.float64),
    )
    clipped = clip_users(vectors, bound)
    for start, stop in zip(clipped.offsets[:-1], clipped.offsets[1:], strict=True):
        # In exact arithmetic, so that not one unit in the last place can hide.
        assert sum(Fraction(float(value)) ** 2 for value in clipped.values[start:stop]) <= Fraction(bound) ** 2
