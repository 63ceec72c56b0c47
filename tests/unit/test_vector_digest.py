"""The digest of a vector is BLAKE3 as published, and changes with every bit and with the length."""

import pytest

from shared.secagg.context import vector_digest
from tests.golden.blake3_reference import blake3

# From the test vectors that the designers publish with the specification: bytes 0, 1, ..., 250, 0, 1, ... of a length.
PUBLISHED = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1023: "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    2048: "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
    2049: "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030",
    3072: "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2",
    3073: "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3",
    4096: "015094013f57a5277b59d8475c0501042c0b642e531b0a1c8f58d2163229e969",
    4097: "9b4052b38f1c5fc8b1f9ff7ac7b27cd242487b3d890d15c96a1c25b8aa0fb995",
    5121: "628bd2cb2004694adaab7bbd778a25df25c47b9d4155a55f8fbd79f2fe154cff",
    6145: "f1323a8631446cc50536a9f705ee5cb619424d46887f3c376c695b70e0f0507f",
    7169: "a003fc7a51754a9b3c7fae0367ab3d782dccf28855a03d435f8cfe74605e7817",
}


def counted(size: int) -> bytes:
    return bytes(number % 251 for number in range(size))


@pytest.mark.parametrize("size", PUBLISHED)
def test_a_published_input_has_its_published_digest(size: int) -> None:
    assert vector_digest(counted(size)).hex() == PUBLISHED[size]


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_reference_that_the_golden_vectors_are_made_with_agrees(size: int) -> None:
    assert blake3(counted(size)).hex() == PUBLISHED[size]


def test_a_vector_that_spans_many_chunks_is_hashed_as_the_reference_does() -> None:
    assert vector_digest(counted(70_001)) == blake3(counted(70_001))


def test_every_bit_and_the_length_count() -> None:
    vector = bytearray(counted(2_100))
    seen = {vector_digest(bytes(vector)), vector_digest(bytes(vector) + b"\0"), vector_digest(bytes(vector[:-1]))}
    for place in (0, 1_023, 1_024, 2_099):
        for bit in range(8):
            vector[place] ^= 1 << bit
            seen.add(vector_digest(bytes(vector)))
            vector[place] ^= 1 << bit
    assert len(seen) == 3 + 4 * 8
    assert {len(each) for each in seen} == {32}
