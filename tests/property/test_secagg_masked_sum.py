"""Masks cancel exactly: in every ring, for every length, whoever drops out, with the helpers' noise and no more."""

from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from shared.errors import BadSetting, CapacityExceeded, MalformedMessage
from shared.secagg import prg, ring
from shared.secagg.discrete_gaussian import sample
from shared.secagg.mask_sharing import MaskSharing
from shared.secagg.prg import (
    Keystream,
    MaskSeed,
    add_keystreams,
    keystream_sum,
    mask_packed,
    sum_packed,
)
from tests.secagg_cast import HELPERS, ONE_MAY_BE_ABSENT, TENANTS, Round, random_bytes

BITS = st.sampled_from(ring.WIDTHS)
# Lengths around the block of the mask engine (128 KiB) and the head of its stream (32 bytes), and odd ones.
LENGTHS = st.one_of(st.integers(1, 70), st.sampled_from([8193, 16383, 16385, 32767, 32768, 32769, 65537, 131073]))


def signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@given(data=st.data(), bits=BITS, size=LENGTHS, seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_the_opened_sum_is_the_plain_sum_whoever_dropped_out(data: Any, bits: int, size: int, seed: int) -> None:
    active = data.draw(st.sets(st.sampled_from(TENANTS), min_size=2).map(sorted))
    rng = np.random.default_rng(seed)
    # Any values: the ring's sum is the plain sum modulo 2^b, and equal to it when that lies in the signed range.
    third = 2 ** (bits - 1) // 3
    values = {name: rng.integers(-third, third, size) for name in TENANTS}
    sharing = data.draw(st.sampled_from([MaskSharing(helpers=HELPERS), ONE_MAY_BE_ABSENT]))
    the_round = Round(num_coordinates=size, bits=bits, seed=seed, sharing=sharing)
    contributions = [the_round.contribution(name, values[name]) for name in TENANTS]
    kept = [each for each in contributions if each.client in active]
    absent = data.draw(st.sets(st.sampled_from(sharing.helpers), max_size=sharing.spare))
    opened = the_round.open(kept, the_round.answers(kept, absent=sorted(absent)))
    assert np.array_equal(opened, sum(values[name] for name in active))


@given(data=st.data(), bits=BITS)
@settings(max_examples=40, deadline=None)
def test_a_sum_wraps_as_the_ring_does_at_the_very_edges(data: Any, bits: int) -> None:
    rows = [data.draw(arrays(np.int64, 3, elements=signed(bits))) for _ in TENANTS]
    the_round = Round(num_coordinates=3, bits=bits)
    contributions = [the_round.contribution(name, row) for name, row in zip(TENANTS, rows, strict=True)]
    opened = the_round.open(contributions, the_round.answers(contributions))
    half = 2 ** (bits - 1)
    assert opened.tolist() == [(sum(map(int, column)) + half) % (2 * half) - half for column in np.transpose(rows)]


def test_the_order_of_contributions_and_answers_does_not_matter() -> None:
    the_round = Round()
    contributions = the_round.contributions()
    answers = the_round.answers(contributions)
    assert np.array_equal(the_round.open(contributions, answers), the_round.open(contributions[::-1], answers[::-1]))


@pytest.mark.parametrize("bits", [24, 32, 64])
def test_the_opened_sum_holds_exactly_the_noise_of_both_helpers(bits: int) -> None:
    the_round = Round(num_coordinates=1_001, bits=bits)
    contributions = the_round.contributions()
    answers = the_round.answers(contributions, noise_std=500)
    clean = the_round.open(contributions, the_round.answers(contributions))
    noise = sample(500, 1_001, random_bytes(the_round.seed + 1_000_000))
    assert np.array_equal(the_round.open(contributions, answers) - clean, len(HELPERS) * noise)
    assert noise.std() == pytest.approx(500, rel=0.1)


def test_noise_of_two_helpers_with_their_own_randomness_adds_up_in_variance() -> None:
    the_round = Round(num_coordinates=20_000)
    contributions = the_round.contributions()
    headers = [each.header() for each in contributions]
    noisy = [
        the_round.answer(helper, headers, noise_std=100, random_bytes=random_bytes(seed))
        for seed, helper in enumerate(HELPERS)
    ]
    noise = the_round.open(contributions, noisy) - the_round.open(contributions, the_round.answers(contributions))
    assert noise.std() == pytest.approx(100 * 2**0.5, rel=0.03)


# --- the ring and the mask engine alone ---


@given(data=st.data(), bits=BITS, size=st.integers(0, 50))
def test_packing_a_ring_vector_gives_it_back(data: Any, bits: int, size: int) -> None:
    values = data.draw(arrays(np.int64, size, elements=signed(bits)))
    packed = ring.pack(ring.encode(values, bits), bits)
    assert len(packed) == ring.size_bytes(bits, size)
    assert packed == b"".join((int(value) % 2**bits).to_bytes(bits // 8, "little") for value in values)
    again = ring.unpack(packed, bits, size)
    assert np.array_equal(ring.decode(again, bits), values)


@given(values=arrays(np.int64, 4), bits=BITS)
def test_reducing_is_the_integer_modulo_the_ring(values: NDArray[np.int64], bits: int) -> None:
    half = 2 ** (bits - 1)
    expected = [(int(value) + half) % (2 * half) - half for value in values]
    assert ring.decode(ring.reduce(values, bits), bits).tolist() == expected
    if expected != values.tolist():
        with pytest.raises(CapacityExceeded):
            ring.encode(values, bits)


@pytest.mark.parametrize("bits", ring.WIDTHS)
@pytest.mark.parametrize("wrong", [-1, 1])
def test_unpacking_another_length_is_refused(bits: int, wrong: int) -> None:
    with pytest.raises(MalformedMessage):
        ring.unpack(bytes(ring.size_bytes(bits, 5) + wrong), bits, 5)


@given(
    bits=BITS,
    size=LENGTHS,
    keys=st.lists(st.binary(min_size=32, max_size=32), max_size=4),
    start=st.integers(0, 2**15),
)
@settings(max_examples=60, deadline=None)
def test_the_streams_that_are_added_are_those_of_the_keys(bits: int, size: int, keys: list[bytes], start: int) -> None:
    kind = ring.computing_type(bits)
    buffer = ring.zeros(bits, size) + kind.type(start)
    before = buffer.copy()
    add_keystreams(buffer, keys)
    expected = before.copy()
    for key in keys:
        expected += np.frombuffer(Keystream(key).read(buffer.nbytes), dtype=kind)
    assert np.array_equal(buffer, expected)


@given(
    data=st.data(),
    bits=BITS,
    size=LENGTHS,
    keys=st.lists(st.binary(min_size=32, max_size=32), max_size=3),
    others=st.lists(st.binary(min_size=32, max_size=32), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_masking_in_one_pass_gives_the_bytes_of_one_step_after_the_other(
    data: Any, bits: int, size: int, keys: list[bytes], others: list[bytes]
) -> None:
    values = np.resize(data.draw(arrays(np.int64, 7, elements=signed(bits))), size)
    kind = ring.computing_type(bits)
    expected = ring.encode(values, bits)
    for key in keys:
        expected += np.frombuffer(Keystream(key).read(expected.nbytes), dtype=kind)
    for key in others:
        expected -= np.frombuffer(Keystream(key).read(expected.nbytes), dtype=kind)
    before, shown = values.copy(), bytearray()
    assert mask_packed(values, bits, added=keys, subtracted=others, watch=shown.extend) == ring.pack(expected, bits)
    assert np.array_equal(values, before)
    assert bytes(shown) == ring.pack(expected, bits)


@given(
    bits=BITS,
    size=LENGTHS,
    keys=st.lists(st.binary(min_size=32, max_size=32), max_size=3),
    noise=st.none() | arrays(np.int64, 7),
)
@settings(max_examples=40, deadline=None)
def test_a_sum_of_streams_in_one_pass_is_that_of_one_step_after_the_other(
    bits: int, size: int, keys: list[bytes], noise: NDArray[np.int64] | None
) -> None:
    # Noise may leave the ring's range, as the tail of a wide distribution does: it is taken modulo the ring.
    drawn = None if noise is None else np.resize(noise, size)
    expected, shown = ring.zeros(bits, size), bytearray()
    add_keystreams(expected, keys)
    if drawn is not None:
        expected += ring.reduce(drawn, bits)
    assert keystream_sum(size, bits, keys, noise=drawn, watch=shown.extend) == ring.pack(expected, bits)
    assert bytes(shown) == ring.pack(expected, bits)


@given(
    data=st.data(),
    bits=BITS,
    size=LENGTHS,
    num_vectors=st.integers(0, 3),
    keys=st.lists(st.binary(min_size=32, max_size=32), max_size=2),
    others=st.lists(st.binary(min_size=32, max_size=32), max_size=2),
)
@settings(max_examples=40, deadline=None)
def test_opening_in_one_pass_gives_the_sum_of_one_step_after_the_other(
    data: Any, bits: int, size: int, num_vectors: int, keys: list[bytes], others: list[bytes]
) -> None:
    drawn = data.draw(arrays(np.uint8, (num_vectors, 41)))
    vectors = [np.resize(each, ring.size_bytes(bits, size)).tobytes() for each in drawn]
    expected = ring.zeros(bits, size)
    for vector in vectors:
        expected = expected + ring.unpack(vector, bits, size)
    add_keystreams(expected, keys)
    for key in others:
        expected -= np.frombuffer(Keystream(key).read(expected.nbytes), dtype=expected.dtype)
    total = sum_packed(vectors, bits, size, added=keys, subtracted=others)
    assert total.dtype == np.int64
    assert np.array_equal(total, ring.decode(expected, bits))


@pytest.mark.parametrize("size", [0, 1, 69_999, 70_001])
def test_noise_for_another_number_of_coordinates_is_refused(size: int) -> None:
    with pytest.raises(BadSetting, match=f"70000 coordinates need as much noise, there are {size}"):
        keystream_sum(70_000, 16, [bytes(32)], noise=np.ones(size, dtype=np.int64))


@pytest.mark.parametrize("kind", [">i8", "<i8"])
@pytest.mark.parametrize("bits", [16, 24, 32])
def test_a_value_outside_the_ring_is_refused_in_either_order_of_bytes(bits: int, kind: str) -> None:
    half = 2 ** (bits - 1)
    inside = np.array([half - 1, -half, 0], dtype=kind)
    assert ring.decode(ring.encode(inside, bits), bits).tolist() == inside.tolist()
    for value in (half, -half - 1, 2**40, -(2**40), 2**62):
        with pytest.raises(CapacityExceeded):
            ring.encode(np.array([0, value], dtype=kind), bits)


@pytest.mark.parametrize("bits", ring.WIDTHS)
def test_opening_refuses_a_vector_of_another_length_wherever_it_is_in_the_list(bits: int) -> None:
    good = bytes(ring.size_bytes(bits, 70_000))
    for wrong in (good[:-1], good + b"\0", b""):
        for vectors in ([wrong, good], [good, wrong]):
            with pytest.raises(MalformedMessage, match="70000 coordinates"):
                sum_packed(vectors, bits, 70_000)


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("size", [1, 16_385, 70_000])
def test_one_value_outside_the_ring_is_refused_wherever_it_stands(bits: int, size: int) -> None:
    half = 2 ** (bits - 1)
    for place in {0, size // 2, size - 1}:
        for value, is_refused in ((half, True), (-half - 1, True), (half - 1, False), (-half, False)):
            values = np.zeros(size, dtype=np.int64)
            values[place] = value
            if is_refused:
                with pytest.raises(CapacityExceeded):
                    mask_packed(values, bits, subtracted=[bytes(32)])
            else:
                assert len(mask_packed(values, bits, subtracted=[bytes(32)])) == ring.size_bytes(bits, size)


def test_a_strided_or_reversed_vector_is_masked_as_its_copy() -> None:
    values = np.arange(-50_000, 50_000, dtype=np.int64)
    for view in (values[::-1], values[::3], values[1:]):
        assert mask_packed(view, 24, added=[bytes(32)]) == mask_packed(view.copy(), 24, added=[bytes(32)])


@pytest.mark.parametrize("kind", ["_Stream", "_WideStream"])
@pytest.mark.parametrize("size", [1, 15, 16, 31, 32, 33, 100, 131_071, 131_072, 131_073, 131_105, 400_001])
def test_either_way_to_compute_a_stream_gives_counter_mode_from_block_zero(
    kind: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prg, "_FASTEST", getattr(prg, kind))
    key = bytes(range(32))
    buffer = np.zeros(size, dtype=np.uint8)
    add_keystreams(buffer, [key])
    assert buffer.tobytes() == Keystream(key).read(size)
    assert size < 32 or buffer[:16].tobytes() == Cipher(AES256(key), ECB()).encryptor().update(bytes(16))


def test_a_keystream_read_in_parts_is_the_one_read_at_once() -> None:
    parts = Keystream(bytes(32))
    assert parts.read(5) + parts.read(0) + parts.read(100) == Keystream(bytes(32)).read(105)


def test_one_seed_gives_unrelated_keys_in_two_contexts() -> None:
    seed = MaskSeed(bytes(32))
    assert seed.key(bytes(32)) != seed.key(bytes(31) + b"\1")
    with pytest.raises(ValueError, match="32 bytes"):
        MaskSeed(bytes(31))
