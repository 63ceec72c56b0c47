"""The ring Z_{2^b} for b of 16, 24, 32 or 64: numpy buffers to compute in, little-endian bytes to send.

Addition of unsigned numpy integers is the ring's own. A 24-bit ring computes in 32 bits and is cut when packed: 2^24
divides 2^32, so reducing at the end gives the same residue, and its masks run at the speed of the 32-bit ones.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadSetting, CapacityExceeded, MalformedMessage

# Elements of the ring in their computing width: little-endian uint16, uint32 or uint64, one dimension.
RingBuffer = NDArray[np.unsignedinteger[Any]]

_COMPUTING_TYPE: dict[int, np.dtype[np.unsignedinteger[Any]]] = {
    16: np.dtype("<u2"),
    24: np.dtype("<u4"),
    32: np.dtype("<u4"),
    64: np.dtype("<u8"),
}
WIDTHS = tuple(_COMPUTING_TYPE)


def computing_type(bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The dtype of a ring's buffers; raises BadSetting for a width that is not in WIDTHS."""
    if bits not in _COMPUTING_TYPE:
        raise BadSetting(f"bits must be one of {', '.join(map(str, WIDTHS))}, got {bits}")
    return _COMPUTING_TYPE[bits]


def size_bytes(bits: int, num_coordinates: int) -> int:
    """Length of a packed vector."""
    computing_type(bits)
    return bits // 8 * num_coordinates


def zeros(bits: int, num_coordinates: int) -> RingBuffer:
    return np.zeros(num_coordinates, dtype=computing_type(bits))


def encode(values: NDArray[np.int64], bits: int) -> RingBuffer:
    """Signed integers as ring elements; raises CapacityExceeded unless all lie in [-2^(b-1), 2^(b-1))."""
    kind, half = computing_type(bits), 2 ** (bits - 1)
    try:
        # One pass that casts and compares; looking for the least and the largest would be two more.
        # Native first: where bytes have to be swapped, numpy 2.4 does not compare.
        words = values.astype(np.int64, copy=False).astype(f"<i{kind.itemsize}", casting="same_value")
    except ValueError as error:
        raise CapacityExceeded(f"a value leaves the signed range of {bits} bits") from error
    if bits < 8 * kind.itemsize and len(words) and not -half <= int(words.min()) <= int(words.max()) < half:
        raise CapacityExceeded(f"a value leaves the signed range of {bits} bits")
    return words.view(kind)


def reduce(values: NDArray[np.int64], bits: int) -> RingBuffer:
    """Signed integers modulo 2^b."""
    return values.astype(np.int64, copy=False).astype(computing_type(bits))


def decode(buffer: RingBuffer, bits: int) -> NDArray[np.int64]:
    """The representatives in [-2^(b-1), 2^(b-1)), int64."""
    kind = computing_type(bits)
    unused = kind.type(8 * kind.itemsize - bits)
    signed = np.dtype(f"<i{kind.itemsize}")
    # The sign bit of the ring to the top of the word, and back down with its sign; most rings fill their words.
    words = ((buffer << unused).view(signed) >> signed.type(unused)) if unused else buffer.view(signed)
    return words.astype(np.int64)


def pack(buffer: RingBuffer, bits: int) -> bytes:
    """`b / 8` little-endian bytes an element."""
    return octets(buffer, bits).tobytes()


def octets(buffer: RingBuffer, bits: int) -> NDArray[np.uint8]:
    """What `pack` gives, uint8 (size_bytes,): `buffer` itself seen as bytes where nothing has to be cut."""
    width = bits // 8
    words = np.ascontiguousarray(buffer, dtype=computing_type(bits))
    seen = words.view(np.uint8)
    if words.itemsize == width:
        return seen
    return np.ascontiguousarray(seen.reshape(-1, words.itemsize)[:, :width]).reshape(-1)


def check_size(data: bytes | memoryview, bits: int, num_coordinates: int) -> None:
    """Raise MalformedMessage unless `data` is as long as a packed vector."""
    expected = size_bytes(bits, num_coordinates)
    if len(data) != expected:
        raise MalformedMessage(f"{num_coordinates} coordinates in {bits} bits are {expected} bytes, got {len(data)}")


def unpack(data: bytes | memoryview, bits: int, num_coordinates: int) -> RingBuffer:
    """Inverse of `pack`, read-only where it shares `data`; raises MalformedMessage for another length."""
    check_size(data, bits, num_coordinates)
    kind, width = computing_type(bits), bits // 8
    if kind.itemsize == width:
        return np.frombuffer(data, dtype=kind)
    wide = np.zeros((num_coordinates, kind.itemsize), dtype=np.uint8)
    wide[:, :width] = np.frombuffer(data, dtype=np.uint8).reshape(num_coordinates, width)
    return wide.reshape(-1).view(kind)
