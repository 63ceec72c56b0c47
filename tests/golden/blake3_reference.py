"""BLAKE3's hash mode in plain integers, from its specification: slow, and independent of the library that we use.

O'Connor, Aumasson, Neves, Wilcox-O'Hearn 2020 ("BLAKE3: one function, fast everywhere"), section 2.
"""

import struct

_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8
_CHUNK_BYTES, _BLOCK_BYTES, _ROUNDS = 1024, 64, 7
_WORD = 2**32
# Columns, then diagonals.
_MIXED = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip

Words = tuple[int, ...]


def blake3(data: bytes) -> bytes:
    """32 bytes."""
    return struct.pack("<8I", *_node(data, 0, _ROOT))


def _node(data: bytes, first_chunk: int, flags: int) -> Words:
    """Chaining value of a subtree: the left one is the largest that is full and leaves something to the right."""
    if len(data) <= _CHUNK_BYTES:
        return _chunk(data, first_chunk, flags)
    full = (len(data) - 1) // _CHUNK_BYTES
    left = 1 << (full.bit_length() - 1)
    cut = left * _CHUNK_BYTES
    children = _node(data[:cut], first_chunk, 0) + _node(data[cut:], first_chunk + left, 0)
    return _compress(_IV, children, 0, _BLOCK_BYTES, _PARENT | flags)


def _chunk(data: bytes, number: int, flags: int) -> Words:
    value: Words = _IV
    starts = range(0, max(len(data), 1), _BLOCK_BYTES)
    for start in starts:
        block = data[start : start + _BLOCK_BYTES]
        own = (_CHUNK_START if start == 0 else 0) | (_CHUNK_END | flags if start == starts[-1] else 0)
        words = struct.unpack("<16I", block.ljust(_BLOCK_BYTES, b"\0"))
        value = _compress(value, words, number, len(block), own)
    return value


def _compress(value: Words, block: Words, counter: int, size: int, flags: int) -> Words:
    state = [*value, *_IV[:4], counter % _WORD, counter // _WORD, size, flags]
    for _ in range(_ROUNDS):
        for place, (a, b, c, d) in enumerate(_MIXED):
            _mix(state, a, b, c, d, block[2 * place], block[2 * place + 1])
        block = tuple(block[place] for place in _PERMUTATION)
    return tuple(low ^ high for low, high in zip(state[:8], state[8:], strict=True))


def _mix(state: list[int], a: int, b: int, c: int, d: int, first: int, second: int) -> None:
    for word, right_d, right_b in ((first, 16, 12), (second, 8, 7)):
        state[a] = (state[a] + state[b] + word) % _WORD
        state[d] = _rotated(state[d] ^ state[a], right_d)
        state[c] = (state[c] + state[d]) % _WORD
        state[b] = _rotated(state[b] ^ state[c], right_b)


def _rotated(word: int, right: int) -> int:
    return (word >> right | word << (32 - right)) % _WORD
