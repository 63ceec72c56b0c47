"""The mask generator: AES-256-CTR keystream added to, or subtracted from, a ring buffer.

Knows keys and rings, not parties: both the masks that helpers can expand and those that pairs of clients would share
are this stream. A key masks one vector only, so the counter starts at zero.

What is slow about a long vector is fetching it from memory, so everything that is done to it is done block by block,
while a block is in the processor's cache: `mask_packed` goes over the values once.
"""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR, GCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from shared.errors import BadSetting
from shared.secagg import ring
from shared.secagg.ring import RingBuffer

KEY_BYTES = 32
# The stream of a block, its zeros and the slices of the vector stay in the second-level cache together.
_BLOCK_BYTES = 128 * 1024
_ZEROS = memoryview(bytes(_BLOCK_BYTES))
# `update_into` demands room for a block more than the data, though no stream cipher uses it.
_SPARE_BYTES = 15
# Blocks 0 and 1 of the stream, which Galois/Counter Mode keeps to itself.
_HEAD_BYTES = 32
_LABEL = b"zhiyin/mask/1"

_Step = Callable[[RingBuffer, RingBuffer, RingBuffer], Any]
Watch = Callable[[memoryview], object]


class MaskSeed:
    """32 secret bytes that a mask is grown from. Never shown by repr, never pickled, copied or compared."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a mask seed has {KEY_BYTES} bytes, got {len(secret)}")
        self._secret = secret

    def __repr__(self) -> str:
        return "MaskSeed(<hidden>)"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a mask seed must not be pickled or copied")

    def reveal(self) -> bytes:
        """The secret, for sealing it to a helper."""
        return self._secret

    def key(self, ctx: bytes) -> bytes:
        """The AES key of this seed in one context: HKDF-SHA256 with the context as salt (RFC 5869)."""
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=ctx, info=_LABEL).derive(self._secret)


def add_keystreams(buffer: RingBuffer, keys: Sequence[bytes]) -> None:
    """buffer += the sum of the keys' streams, in place."""
    streams = _Streams(keys, ())
    for part in _blocks(len(buffer), buffer.dtype):
        streams.apply(buffer[part])


def mask_packed(
    values: NDArray[np.int64],
    bits: int,
    *,
    added: Sequence[bytes] = (),
    subtracted: Sequence[bytes] = (),
    watch: Watch | None = None,
) -> bytes:
    """Signed integers plus the streams of the keys in `added`, minus those in `subtracted`, packed for sending.

    The same bytes as `ring.encode`, each stream added or subtracted, and `ring.pack`, one after the other.
    watch: is shown the packed bytes from first to last, in parts, each as soon as it is done; for a digest.
    Raises CapacityExceeded, and gives nothing, unless all values are in the ring's signed range.
    """
    return _packed(len(values), bits, _Streams(added, subtracted), lambda part: ring.encode(values[part], bits), watch)


def keystream_sum(
    num_coordinates: int,
    bits: int,
    keys: Sequence[bytes],
    *,
    noise: NDArray[np.int64] | None = None,
    watch: Watch | None = None,
) -> bytes:
    """The sum of the keys' streams and of `noise` (num_coordinates,), which is taken modulo 2^b, packed for sending.

    watch: as for `mask_packed`. Raises BadSetting for noise of another length.
    """
    if noise is not None and len(noise) != num_coordinates:
        raise BadSetting(f"{num_coordinates} coordinates need as much noise, there are {len(noise)} values")

    def start(part: slice) -> RingBuffer:
        return ring.zeros(bits, part.stop - part.start) if noise is None else ring.reduce(noise[part], bits)

    return _packed(num_coordinates, bits, _Streams(keys, ()), start, watch)


def sum_packed(
    vectors: Sequence[bytes],
    bits: int,
    num_coordinates: int,
    *,
    added: Sequence[bytes] = (),
    subtracted: Sequence[bytes] = (),
) -> NDArray[np.int64]:
    """The sum of packed vectors, plus the streams of the keys in `added`, minus those in `subtracted`, decoded.

    int64 (num_coordinates,) in [-2^(b-1), 2^(b-1)). Raises MalformedMessage for a vector of another length.
    """
    for vector in vectors:
        ring.check_size(vector, bits, num_coordinates)
    total = np.empty(num_coordinates, dtype=np.int64)
    streams = _Streams(added, subtracted)
    views = [memoryview(vector) for vector in vectors]
    for part in _blocks(num_coordinates, ring.computing_type(bits)):
        octets, length = _octets(part, bits), part.stop - part.start
        block = ring.zeros(bits, length)
        for view in views:
            np.add(block, ring.unpack(view[octets], bits, length), out=block)
        streams.apply(block)
        total[part] = ring.decode(block, bits)
    return total


class Keystream:
    """The stream as bytes, read on and on."""

    def __init__(self, key: bytes) -> None:
        self._encryptor = _cipher(key)

    def read(self, size: int) -> bytes:
        """The next `size` bytes."""
        data: bytes = self._encryptor.update(bytes(size))
        return data


def _packed(
    num_coordinates: int,
    bits: int,
    streams: "_Streams",
    start: Callable[[slice], RingBuffer],
    watch: Watch | None,
) -> bytes:
    # Zeros that no writing has touched yet cost nothing, and bytes that were filled in place need not be copied. A
    # block is worked on elsewhere and written once: memory that the kernel hands out meanwhile is slow to work on.
    packed = BytesIO(bytes(ring.size_bytes(bits, num_coordinates)))
    for part in _blocks(num_coordinates, ring.computing_type(bits)):
        block = start(part)
        streams.apply(block)
        octets = ring.octets(block, bits).data
        if watch is not None:
            watch(octets)
        packed.write(octets)
    return packed.getvalue()


def _blocks(size: int, kind: np.dtype[Any]) -> Iterator[slice]:
    step = _BLOCK_BYTES // kind.itemsize
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def _octets(part: slice, bits: int) -> slice:
    return slice(ring.size_bytes(bits, part.start), ring.size_bytes(bits, part.stop))


class _Streams:
    """The streams of many keys, applied to one block after the other of one vector, from its start.

    All keys on one block before the next: it stays in the cache, which a long vector as a whole would not.
    """

    def __init__(self, added: Sequence[bytes], subtracted: Sequence[bytes]) -> None:
        self._steps: list[tuple[_Stream | _WideStream, _Step]] = [(_FASTEST(key), np.add) for key in added]
        self._steps += [(_FASTEST(key), np.subtract) for key in subtracted]
        self._room = memoryview(bytearray(_BLOCK_BYTES + _SPARE_BYTES))

    def apply(self, block: RingBuffer) -> None:
        """In place. Every block but the last has _BLOCK_BYTES."""
        words = np.frombuffer(self._room, dtype=block.dtype, count=len(block))
        for stream, step in self._steps:
            stream.read_into(self._room, block.nbytes)
            step(block, words, block)


class _Stream:
    """AES-256-CTR from block 0 on."""

    def __init__(self, key: bytes) -> None:
        self._update_into = _cipher(key).update_into

    def read_into(self, room: memoryview, size: int) -> None:
        """The next `size` bytes of the stream to the start of `room`, which has 15 more."""
        self._update_into(_ZEROS[:size], room)


class _WideStream:
    """The same bytes in half the time, on processors that encrypt four blocks in one instruction.

    OpenSSL uses these instructions for Galois/Counter Mode and not for plain counter mode. The former encrypts as the
    latter does (NIST SP 800-38D, section 6.5), under a nonce of 12 zero bytes from block 2 on; the tag that it computes
    as well is never asked for. Its counter has 32 bits, which is 64 GiB; a vector has to fit a frame of one.
    """

    def __init__(self, key: bytes) -> None:
        self._head: bytes = _cipher(key).update(bytes(_HEAD_BYTES))
        self._update_into = Cipher(AES256(key), GCM(bytes(12))).encryptor().update_into

    def read_into(self, room: memoryview, size: int) -> None:
        head, self._head = self._head, b""
        room[: len(head)] = head
        if size > len(head):
            self._update_into(_ZEROS[: size - len(head)], room[len(head) :])


def _has_wide_aes() -> bool:
    # numpy's name for processors with AVX-512 and VAES, which it looks up once for itself. Elsewhere the tag would cost
    # more than the wide registers save: with AES-NI alone Galois/Counter Mode takes half as long again.
    found = np.show_config(mode="dicts")
    return "AVX512_ICL" in found.get("SIMD Extensions", {}).get("found", ())


_FASTEST = _WideStream if _has_wide_aes() else _Stream


def _cipher(key: bytes) -> Any:
    return Cipher(AES256(key), CTR(bytes(16))).encryptor()


class KeystreamUniform:
    """Uniform numbers in [0, 1), multiples of 2^-53, from AES-256-CTR under a secret 32-byte key; hidden in repr."""

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(AES256(key), CTR(bytes(16))).encryptor()

    def __repr__(self) -> str:
        return "KeystreamUniform(<hidden>)"

    def random(self, size: int) -> NDArray[np.float64]:
        """The next `size` numbers, float64 (size,)."""
        words = np.frombuffer(self._encryptor.update(bytes(8 * size)), dtype="<u8")
        numbers: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return numbers
