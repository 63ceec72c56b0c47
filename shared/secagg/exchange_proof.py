"""A proof that 32 bytes are the X25519 exchange of two public keys, by the holder of one of them (pure arithmetic).

Chaum and Pedersen 1992 ("Wallet Databases with Observers", CRYPTO, section 3.2), made non-interactive by a hash
(Fiat-Shamir), on edwards25519 (RFC 8032, section 5.1), to which Curve25519 is birationally equivalent (RFC 7748,
section 4.1). X25519 multiplies by a clamped r = 8 x. With G the base point, A = r G and K = r B, what is shown is
x with A = x (8 G) and K = x (8 B). Everything proved about lies in the subgroup of prime order, and that is checked,
so no part of low order can hide a difference. An X25519 key names a point up to its sign; A and -A are both tried,
and -A with -K has the same bytes.

Integers of Python take times that depend on their values. The ladder does the same operations for every bit, and what
the proof uses is a key made for one round: it is no signing key, and gives one proof for each party that cheats.
"""

from hashlib import sha512
from typing import NamedTuple

from shared.errors import BadSignature, UnknownKey
from shared.secagg.context import join_fields

POINT_BYTES = 32
PROOF_BYTES = 64
_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)
_LADDER_BITS = 253
_CHALLENGE = b"zhiyin/exchange-proof/1"
_NONCE = b"zhiyin/exchange-proof-nonce/1"


class _Point(NamedTuple):
    """Extended homogeneous coordinates: x = X/Z, y = Y/Z, T = X Y / Z."""

    x: int
    y: int
    z: int
    t: int


_IDENTITY = _Point(0, 1, 1, 0)


def prove_exchange(secret: bytes, own: bytes, peer: bytes, statement: bytes) -> tuple[bytes, bytes]:
    """(point, proof): the exchange as a point of 32 bytes, and 64 bytes which show that it is one.

    secret: 32 bytes, X25519. own: its public key. peer: the other key. statement: what the proof is bound to. The same
    arguments give the same bytes. Raises UnknownKey for a key that is not on the curve or of low order.
    """
    scalar = _clamped(secret) // 8
    base, other = _eightfold(_BASE), _eightfold(_from_montgomery(peer))
    exchanged = _times(scalar, other)
    if _is_identity(exchanged):
        raise UnknownKey("the exchange with a key of low order gives no secret")
    point = _encode(exchanged)
    # From the secret and everything that is proved, so that one nonce never serves two statements.
    nonce = _number(join_fields(_NONCE, secret, own, peer, statement))
    challenge = _challenge(own, peer, point, _times(nonce, base), _times(nonce, other), statement)
    answer = (nonce + challenge * scalar) % _ORDER
    return point, challenge.to_bytes(32, "little") + answer.to_bytes(32, "little")


def verify_exchange(point: bytes, proof: bytes, own: bytes, peer: bytes, statement: bytes) -> bytes:
    """The 32 bytes that X25519 gives the holder of `own` with `peer`.

    Raises BadSignature unless the proof shows it for this statement, UnknownKey for keys that are none.
    """
    if len(proof) != PROOF_BYTES:
        raise BadSignature(f"a proof of an exchange has {PROOF_BYTES} bytes, got {len(proof)}")
    challenge, answer = (int.from_bytes(part, "little") for part in (proof[:32], proof[32:]))
    if challenge >= _ORDER or answer >= _ORDER:
        raise BadSignature("a proof of an exchange holds a number that is too large")
    base, other = _eightfold(_BASE), _eightfold(_from_montgomery(peer))
    exchanged, public = _decode(point), _from_montgomery(own)
    for each in (exchanged, public):
        if _is_identity(each) or not _is_identity(_times(_ORDER, each)):
            raise BadSignature("a proof of an exchange is about a point outside the group of prime order")
    for held in (public, _negative(public)):
        first, second = (
            _plus(_times(answer, start), _negative(_times(challenge, end)))
            for start, end in ((base, held), (other, exchanged))
        )
        if _challenge(own, peer, point, first, second, statement) == challenge:
            return _to_montgomery(exchanged)
    raise BadSignature("the proof does not show that this is the exchange of these keys")


def _challenge(own: bytes, peer: bytes, point: bytes, first: _Point, second: _Point, statement: bytes) -> int:
    return _number(join_fields(_CHALLENGE, own, peer, point, _encode(first), _encode(second), statement))


def _number(text: bytes) -> int:
    return int.from_bytes(sha512(text).digest(), "little") % _ORDER


def _clamped(secret: bytes) -> int:
    return int.from_bytes(secret, "little") & ((1 << 254) - 8) | (1 << 254)


def _from_montgomery(public: bytes) -> _Point:
    """A point with this u-coordinate, the one of even x (RFC 7748: the highest bit is ignored)."""
    u = (int.from_bytes(public, "little") & ((1 << 255) - 1)) % _P
    if len(public) != POINT_BYTES or u == _P - 1:
        raise UnknownKey("a key is not on the curve")
    y = (u - 1) * pow(u + 1, -1, _P) % _P
    x = _x_of(y)
    if x is None:
        raise UnknownKey("a key is not on the curve")
    return _affine(x, y)


def _to_montgomery(point: _Point) -> bytes:
    return ((point.z + point.y) * pow(point.z - point.y, -1, _P) % _P).to_bytes(32, "little")


def _encode(point: _Point) -> bytes:
    inverse = pow(point.z, -1, _P)
    x, y = point.x * inverse % _P, point.y * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _decode(data: bytes) -> _Point:
    number = int.from_bytes(data, "little")
    y, odd = number & ((1 << 255) - 1), number >> 255
    x = _x_of(y) if len(data) == POINT_BYTES and y < _P else None
    if x is None or (odd and not x):
        raise BadSignature("a proof of an exchange holds bytes that are no point")
    return _affine(_P - x if odd else x, y)


def _x_of(y: int) -> int | None:
    """The even x of x^2 = (y^2 - 1) / (d y^2 + 1), None where there is none (RFC 8032, section 5.1.3)."""
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if (x * x - square) % _P:
        return None
    return _P - x if x & 1 else x


def _affine(x: int, y: int) -> _Point:
    return _Point(x, y, 1, x * y % _P)


def _plus(first: _Point, second: _Point) -> _Point:
    # RFC 8032, section 5.1.4: complete, so doubling and the identity are no special cases.
    a = (first.y - first.x) * (second.y - second.x) % _P
    b = (first.y + first.x) * (second.y + second.x) % _P
    c, d = 2 * first.t * second.t * _D % _P, 2 * first.z * second.z % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return _Point(e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _negative(point: _Point) -> _Point:
    return _Point(-point.x % _P, point.y, point.z, -point.t % _P)


def _times(scalar: int, point: _Point) -> _Point:
    """A ladder of as many steps for every scalar below 2^253; `_ORDER` itself is one of them."""
    low, high = _IDENTITY, point
    for bit in range(_LADDER_BITS - 1, -1, -1):
        both = _plus(low, high)
        low, high = (both, _plus(high, high)) if scalar >> bit & 1 else (_plus(low, low), both)
    return low


def _eightfold(point: _Point) -> _Point:
    for _ in range(3):
        point = _plus(point, point)
    return point


def _is_identity(point: _Point) -> bool:
    return point.x == 0 and point.y == point.z


_BASE = _from_montgomery((9).to_bytes(32, "little"))
