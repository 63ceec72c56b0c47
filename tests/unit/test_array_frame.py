"""A frame comes out of the array that Flower carries, and out of nothing that only looks like one."""

import tracemalloc

import numpy as np
import pytest
from flwr.app import Array

from shared.array_frame import frame_of_array
from shared.errors import MalformedMessage

GOOD = Array(np.frombuffer(b"ZHIY and more", np.uint8)).data


@pytest.mark.parametrize("frame", [b"", b"\n", b"ZHIY and more", bytes(100_000)])
def test_what_flower_writes_is_read(frame: bytes) -> None:
    assert frame_of_array(Array(np.frombuffer(frame, np.uint8)).data) == frame


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[:7],
        GOOD[:30],
        GOOD[:-1],
        GOOD + b"\x00",
        GOOD.replace(b"|u1", b"|O "),
        GOOD.replace(b"(13,)", b"(-1,)"),
        GOOD.replace(b"(13,)", b"(13, 1)"),
        GOOD.replace(b"NUMPY\x01", b"NUMPY\x02"),
        Array(np.zeros((2, 2), np.uint8)).data,
        Array(np.zeros(4, np.uint16)).data,
    ],
)
def test_another_array_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        frame_of_array(data)


def test_a_length_that_is_only_declared_is_not_allocated() -> None:
    declared = GOOD.replace(b"(13,), }           ", b"(1099511627776,), }")
    assert len(declared) == len(GOOD)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage):
            frame_of_array(declared)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
