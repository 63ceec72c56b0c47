"""Any t shares give the secret, fewer say nothing, and what is no share is refused."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shared.errors import TooFewClients, WrongShare
from shared.secagg.shamir import PRIME, SHARE_BYTES, Interpolation, combine, element, split
from tests.secagg_cast import random_bytes

SECRET = bytes(range(32))


@given(
    secret=st.binary(min_size=32, max_size=32),
    points=st.sets(st.integers(1, PRIME - 1), min_size=1, max_size=9).map(sorted),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_any_threshold_of_shares_gives_the_secret(secret: bytes, points: list[int], data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, len(points)))
    shares = split(secret, threshold=threshold, points=points, random_bytes=random_bytes(3))
    assert {len(share) for share in shares} == {SHARE_BYTES}
    chosen = data.draw(st.sets(st.sampled_from(range(len(points))), min_size=threshold))
    assert combine({points[index]: shares[index] for index in chosen}, threshold=threshold) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_the_least_and_the_largest_secret_are_shared_like_any_other(secret: bytes) -> None:
    shares = split(secret, threshold=3, points=[1, 2, 3, 4], random_bytes=random_bytes(1))
    for chosen in combinations(range(4), 3):
        assert combine({index + 1: shares[index] for index in chosen}, threshold=3) == secret


def test_coefficients_computed_once_open_every_secret_at_their_points() -> None:
    points = (2, 5, 11)
    once = Interpolation.through(points, threshold=3)
    for seed in range(4):
        secret = random_bytes(seed)(32)
        shares = split(secret, threshold=3, points=points, random_bytes=random_bytes(seed + 50))
        assert once.secret(dict(zip(points, shares, strict=True))) == secret


def test_fewer_shares_than_the_threshold_fit_every_secret() -> None:
    # For each other secret there is exactly one polynomial through the t - 1 shares: here it is, for two of them.
    shares = split(SECRET, threshold=3, points=[1, 2, 3], random_bytes=random_bytes(7))
    for other in (bytes(32), b"\xee" * 32):
        lone = Interpolation.through((1, 2, 3), threshold=3)
        known = sum(weight * element(share) for weight, share in zip(lone.weights, shares[:2], strict=False))
        third = (int.from_bytes(other, "big") - known) * pow(lone.weights[2], -1, PRIME) % PRIME
        forged = {1: shares[0], 2: shares[1], 3: third.to_bytes(SHARE_BYTES, "big")}
        assert combine(forged, threshold=3) == other


def test_one_share_of_one_secret_is_uniform() -> None:
    tops = [
        element(split(SECRET, threshold=2, points=[9, 10], random_bytes=random_bytes(seed))[0]) * 16 // PRIME
        for seed in range(1_600)
    ]
    assert stats.chisquare(np.bincount(tops, minlength=16)).pvalue > 1e-3


def test_a_polynomial_without_randomness_would_be_noticed() -> None:
    shares = split(SECRET, threshold=2, points=[1, 2], random_bytes=lambda size: bytes(size))
    assert shares[0][1:] == SECRET == shares[1][1:]


def test_drawn_coefficients_that_are_no_elements_are_drawn_again() -> None:
    draws = [b"\xff" * 33, b"\x01" + bytes(30) + b"\x01\x29", b"\x01" + bytes(30) + b"\x01\x28"]
    (share,) = split(bytes(32), threshold=1, points=[1], random_bytes=lambda size: pytest.fail("nothing to draw"))
    assert share == bytes(33)
    first, _ = split(bytes(32), threshold=2, points=[1, 2], random_bytes=lambda size: draws.pop(0))
    assert element(first) == PRIME - 1
    assert not draws


def test_the_modulus_is_prime_and_holds_every_secret() -> None:
    assert PRIME > 2**256
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in range(2, 60):
        value = pow(base, odd, PRIME)
        assert value in (1, PRIME - 1) or any(pow(value, 2**each, PRIME) == PRIME - 1 for each in range(1, twos))


@pytest.mark.parametrize("points", [[0, 1], [1, 1], [1, PRIME], [-1, 1]])
def test_points_that_repeat_or_are_zero_or_leave_the_field_are_refused(points: list[int]) -> None:
    with pytest.raises(ValueError, match="points"):
        split(SECRET, threshold=2, points=points, random_bytes=random_bytes(1))
    with pytest.raises(ValueError, match="points"):
        Interpolation.through(points, threshold=2)


@pytest.mark.parametrize("threshold", [-1, 0, 4])
def test_a_threshold_that_no_set_of_shares_meets_is_refused(threshold: int) -> None:
    with pytest.raises(ValueError, match="threshold"):
        split(SECRET, threshold=threshold, points=[1, 2, 3], random_bytes=random_bytes(1))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_secret_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        split(bytes(size), threshold=1, points=[1], random_bytes=random_bytes(1))


def test_too_few_shares_and_shares_at_other_points_are_refused() -> None:
    shares = split(SECRET, threshold=3, points=[1, 2, 3], random_bytes=random_bytes(1))
    with pytest.raises(TooFewClients):
        combine({1: shares[0], 2: shares[1]}, threshold=3)
    with pytest.raises(ValueError, match="other points"):
        Interpolation.through((1, 2), threshold=2).secret({1: shares[0], 3: shares[2]})


@pytest.mark.parametrize(
    "share", [b"", bytes(32), bytes(34), PRIME.to_bytes(33, "big"), (PRIME + 1).to_bytes(33, "big"), b"\xff" * 33]
)
def test_bytes_that_are_no_share_are_refused(share: bytes) -> None:
    with pytest.raises(WrongShare):
        combine({1: share, 2: bytes(33)}, threshold=2)


def test_shares_whose_secret_has_257_bits_are_refused() -> None:
    with pytest.raises(WrongShare, match="32 bytes"):
        combine({1: (2**256).to_bytes(33, "big")}, threshold=1)
