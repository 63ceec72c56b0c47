"""The proof by which a tenant shows that shares do not open, from docs/protocol.md, in affine coordinates."""

from hashlib import sha512

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P


def times(n: int, point: Point) -> Point:
    total: Point = (0, 1)
    while n:
        if n & 1:
            total = add(total, point)
        point, n = add(point, point), n >> 1
    return total


def from_u(key: bytes) -> Point:
    """The point of even x with this u-coordinate."""
    u = int.from_bytes(key, "little") % 2**255 % P
    y = (u - 1) * pow(u + 1, -1, P) % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - square) % P == 0
    return (P - x if x % 2 else x), y


def encoded(point: Point) -> bytes:
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def joined(*fields: bytes) -> bytes:
    return b"".join(len(each).to_bytes(8, "big") + each for each in fields)


def number(*fields: bytes) -> int:
    return int.from_bytes(sha512(joined(*fields)).digest(), "little") % ORDER


def prove(secret: bytes, own: bytes, peer: bytes, statement: bytes) -> tuple[bytes, bytes]:
    """The exchange as a point, and the proof of 64 bytes."""
    x = (int.from_bytes(secret, "little") & ((1 << 254) - 8) | (1 << 254)) // 8
    base, other = (times(8, from_u(key)) for key in ((9).to_bytes(32, "little"), peer))
    point = encoded(times(x, other))
    nonce = number(b"zhiyin/exchange-proof-nonce/1", secret, own, peer, statement)
    commitments = (encoded(times(nonce, base)), encoded(times(nonce, other)))
    challenge = number(b"zhiyin/exchange-proof/1", own, peer, point, *commitments, statement)
    answer = (nonce + challenge * x) % ORDER
    return point, challenge.to_bytes(32, "little") + answer.to_bytes(32, "little")
