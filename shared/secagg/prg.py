"""The mask generator: AES-256-CTR keystream added to, or subtracted from, a ring buffer.

Knows keys and rings, not parties: both the masks that helpers can expand and those that pairs of clients would share
are this stream. A key masks one vector only, so the counter starts at zero.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from shared.secagg.ring import RingBuffer

KEY_BYTES = 32
# The buffer of a block, its zeros and the slice of the vector stay in the second-level cache together.
_BLOCK_BYTES = 64 * 1024
_ZEROS = bytes(_BLOCK_BYTES)
_LABEL = b"zhiyin/mask/1"

_Step = Callable[[RingBuffer, RingBuffer, RingBuffer], Any]


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
    _apply(buffer, keys, np.add)


def subtract_keystreams(buffer: RingBuffer, keys: Sequence[bytes]) -> None:
    """buffer -= the sum of the keys' streams, in place."""
    _apply(buffer, keys, np.subtract)


class Keystream:
    """The stream as bytes, read on and on."""

    def __init__(self, key: bytes) -> None:
        self._encryptor = _cipher(key)

    def read(self, size: int) -> bytes:
        """The next `size` bytes."""
        data: bytes = self._encryptor.update(bytes(size))
        return data


def _apply(buffer: RingBuffer, keys: Sequence[bytes], step: _Step) -> None:
    encryptors = [_cipher(key) for key in keys]
    # update_into demands room for a block more than the data, though CTR never uses it.
    scratch = bytearray(_BLOCK_BYTES + 15)
    stream = np.frombuffer(scratch, dtype=buffer.dtype, count=_BLOCK_BYTES // buffer.itemsize)
    zeros = memoryview(_ZEROS)
    for start in range(0, len(buffer), len(stream)):
        part = buffer[start : start + len(stream)]
        # All keys on one part before the next: it stays in the cache, which a long vector as a whole would not.
        for encryptor in encryptors:
            encryptor.update_into(zeros[: part.nbytes], scratch)
            step(part, stream[: len(part)], part)


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
