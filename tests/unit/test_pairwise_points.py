"""Which 32 bytes serve as a key of a pairwise round: told without an exchange, held here against exchanges."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UnknownKey
from shared.secagg.pairwise_keys import _LOW_ORDER, check_point, private_key, public_key
from shared.secagg.secret import Secret

P = 2**255 - 19
A = 486662
REDUCED = sorted(_LOW_ORDER)
# Each of them as X25519 reads it: not reduced where 255 bits leave room, and with the highest bit set.
ENCODED = [
    (number | top << 255).to_bytes(32, "little")
    for low in REDUCED
    for number in (low, low + P)
    if number < 2**255
    for top in (0, 1)
]


def gives_a_secret(public: bytes) -> bool:
    try:
        X25519PrivateKey.from_private_bytes(bytes(range(32))).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return False
    return True


def is_usable(public: bytes) -> bool:
    try:
        check_point(public, "carl")
    except UnknownKey:
        return False
    return True


def doubled(u: int) -> int | None:
    """RFC 7748's doubling, on the curve and its twist alike; None is the point at infinity."""
    below = 4 * u * (u * u + A * u + 1) % P
    return (u * u - 1) ** 2 * pow(below, -1, P) % P if below else None


def roots(square: int) -> set[int]:
    root = pow(square, (P + 3) // 8, P)
    both = (root, root * pow(2, (P - 1) // 4, P) % P)
    return {sign * each % P for each in both for sign in (1, -1) if (each * each - square) % P == 0}


def halves(u: int) -> set[int]:
    """Every u' that doubles to u: u'^4 - 4 u u'^3 - (2 + 4 A u) u'^2 - 4 u u' + 1 = 0, in t = u' + 1/u'."""
    # t^2 - 4 u t - (4 + 4 A u) = 0, then u'^2 - t u' + 1 = 0.
    found = set()
    for root in roots((4 * u * u + 4 + 4 * A * u) % P):
        t = (2 * u + root) % P
        found |= {(t + each) * pow(2, -1, P) % P for each in roots((t * t - 4) % P)}
    return {each for each in found if doubled(each) == u}


def test_the_list_of_points_of_low_order_is_complete() -> None:
    """Order 2 is u = 0 (the other two roots of u^2 + A u + 1 lie in no field of ours); then what doubles to it."""
    assert not roots((A * A - 4) % P)
    order_four = halves(0)
    order_eight = {each for u in order_four for each in halves(u)}
    assert {0} | order_four | order_eight == set(_LOW_ORDER)
    assert len(order_eight) == 2


@pytest.mark.parametrize("public", ENCODED)
def test_a_key_of_low_order_is_refused_in_every_spelling_as_an_exchange_refuses_it(public: bytes) -> None:
    assert not gives_a_secret(public)
    with pytest.raises(UnknownKey, match="carl"):
        check_point(public, "carl")


def test_every_spelling_is_among_those_tried() -> None:
    assert len(ENCODED) == 14


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_a_key_is_usable_exactly_where_an_exchange_gives_a_secret(public: bytes) -> None:
    assert is_usable(public) == gives_a_secret(public)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(UnknownKey):
        check_point(bytes([9] * size), "carl")


def test_a_secret_keeps_its_public_key() -> None:
    secret = bytes(range(32))
    assert private_key(Secret(secret)).public_key().public_bytes_raw() == public_key(secret)
