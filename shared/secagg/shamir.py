"""Shamir's t-of-n secret sharing of 32 bytes (Shamir 1979): t shares give the secret, t - 1 say nothing about it.

The field is the integers modulo p = 2^256 + 297, the least prime above 2^256: every string of 32 bytes is an element,
none has to be cut or rejected, and a share is one byte longer than the secret. A larger prime would lengthen shares
and add nothing, for the hiding is perfect in any field that has more elements than there are parties.

Python's integers do not compute in constant time: who measures a dealer's or an opener's time to the nanosecond could
learn about the numbers. Every secret here belongs to one round and is dealt and opened once, on its owner's machine or
by a server that learns it anyway, so there is nothing to repeat such a measurement on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shared.errors import TooFewClients, WrongShare

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33
_TOP_BIT_ONLY = 0x01


def split(
    secret: bytes, *, threshold: int, points: Sequence[int], random_bytes: Callable[[int], bytes]
) -> tuple[bytes, ...]:
    """One share of 33 bytes for each point: the values there of a random polynomial of degree threshold - 1.

    points: x-coordinates, different and from 1 to p - 1; zero is where the secret is. random_bytes: secret and uniform;
    each coefficient is drawn by rejection, so it is uniform in the field exactly.
    Raises ValueError for a secret of another length, such points, or a threshold outside 1..len(points).
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a shared secret has {SECRET_BYTES} bytes, got {len(secret)}")
    _check_points(points)
    if not 1 <= threshold <= len(points):
        raise ValueError(f"a threshold must be from 1 to the {len(points)} shares, got {threshold}")
    coefficients = [_element(random_bytes) for _ in range(threshold - 1)]
    constant = int.from_bytes(secret, "big")
    return tuple(_value(coefficients, constant, point).to_bytes(SHARE_BYTES, "big") for point in points)


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """Lagrange's coefficients at zero for one set of points: computed once, used for every secret shared there."""

    points: tuple[int, ...]
    weights: tuple[int, ...]

    @classmethod
    def through(cls, points: Sequence[int], *, threshold: int) -> "Interpolation":
        """For exactly these points, all of which then count. Raises TooFewClients below the threshold, ValueError."""
        _check_points(points)
        if len(points) < threshold:
            raise TooFewClients(f"{len(points)} shares, the secret opens from {threshold} on")
        weights = []
        for own in points:
            above = below = 1
            for other in points:
                if other != own:
                    above = above * other % PRIME
                    below = below * (other - own) % PRIME
            weights.append(above * pow(below, -1, PRIME) % PRIME)
        return cls(points=tuple(points), weights=tuple(weights))

    def secret(self, shares: Mapping[int, bytes]) -> bytes:
        """The 32 bytes, from the share at each point. Raises WrongShare if the shares are not those of 32 bytes.

        A wrong share as a rule gives other 32 bytes and no error: compare with what the owner committed to.
        """
        if set(shares) != set(self.points):
            raise ValueError("the shares are at other points than the coefficients")
        terms = (weight * element(shares[point]) for point, weight in zip(self.points, self.weights, strict=True))
        value = sum(terms) % PRIME
        if value >= 1 << 8 * SECRET_BYTES:
            raise WrongShare("the shares do not belong to one secret of 32 bytes")
        return value.to_bytes(SECRET_BYTES, "big")


def combine(shares: Mapping[int, bytes], *, threshold: int) -> bytes:
    """The secret from point -> share, at least `threshold` of them. Raises as `Interpolation` does."""
    return Interpolation.through(tuple(shares), threshold=threshold).secret(shares)


def element(share: bytes) -> int:
    """A share as a number; raises WrongShare for bytes that are no element of the field."""
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise WrongShare(f"a share must be {SHARE_BYTES} bytes of a number below 2^256 + 297")
    return value


def _check_points(points: Sequence[int]) -> None:
    if len(set(points)) != len(points) or not all(0 < point < PRIME for point in points):
        raise ValueError("the points of shares must be different and from 1 to p - 1")


def _value(coefficients: Sequence[int], constant: int, point: int) -> int:
    # Horner, from the highest power down.
    total = 0
    for coefficient in coefficients:
        total = (total + coefficient) * point % PRIME
    return (total + constant) % PRIME


def _element(random_bytes: Callable[[int], bytes]) -> int:
    # 257 uniform bits, drawn again while they are not below p: two draws on average.
    while True:
        drawn = random_bytes(SHARE_BYTES)
        value = int.from_bytes(bytes([drawn[0] & _TOP_BIT_ONLY]) + drawn[1:], "big")
        if value < PRIME:
            return value
