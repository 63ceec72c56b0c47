"""The six messages and their strict encoding."""

import struct
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared import frame
from shared.canonical import canonical_json
from shared.errors import BudgetExhausted, MalformedMessage
from shared.frame import Frame, pack_frame, unpack_frame
from shared.secagg.complaint import complain
from shared.wire import (
    ContributionReply,
    ContributionRequest,
    Message,
    Refusal,
    SealComplaint,
    UnmaskReply,
    UnmaskRequest,
    decode,
    encode,
    inputs_digest,
)
from tests.secagg_cast import Round, signing_key

ROUND = Round()
CONTRIBUTIONS = ROUND.contributions()
REQUEST = ContributionRequest(
    plan_json={"job_id": "job-1", "mu": 0.1, "recipe": {"name": "cooccurrence"}},
    step=1,
    attempt=0,
    roster=b"signed roster",
    inputs={
        "head": np.array([5, 3, 1], dtype=np.int32),
        "item_factors": np.array([[0.5, -1.0], [1e-300, 3.0], [0.0, -0.0]]),
    },
)
MESSAGES: tuple[Message, ...] = (
    REQUEST,
    ContributionReply(contribution=CONTRIBUTIONS[0]),
    UnmaskRequest(
        plan_json={"job_id": "job-1"},
        step=1,
        attempt=2,
        roster=b"signed roster",
        inputs_digest=bytes(range(32)),
        slots=("north",),
        headers=tuple(each.header() for each in CONTRIBUTIONS),
    ),
    UnmaskReply(answer=ROUND.answers(CONTRIBUTIONS)[0]),
    Refusal(party="amber", error="BudgetExhausted", message="知音: the budget of 1.0 is spent"),
    SealComplaint(complaint=complain(ctx=ROUND.ctx, helper="north", client="birch", signing_key=signing_key("north"))),
)
NAMES = [type(message).__name__ for message in MESSAGES]
SEAL = {"slot": "north+south", "helper": "north", "seal": "ab" * 80}


def test_the_seal_that_the_bad_ones_are_made_from_is_a_good_one() -> None:
    changed = decoded_with(MESSAGES[1], {"seals": [SEAL] * 64}, {})
    assert isinstance(changed, ContributionReply)
    assert len(changed.contribution.seals) == 64


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
def test_a_message_is_what_its_encoding_decodes_to(message: Message) -> None:
    again = decode(encode(message))
    assert type(again) is type(message)
    assert encode(again) == encode(message)
    if not isinstance(message, ContributionRequest):
        assert again == message


def test_arrays_come_back_in_type_shape_and_every_bit() -> None:
    again = decode(encode(REQUEST))
    assert isinstance(again, ContributionRequest)
    assert again.plan_json == REQUEST.plan_json
    assert again.roster == REQUEST.roster
    assert set(again.inputs) == {"head", "item_factors"}
    for name, array in REQUEST.inputs.items():
        assert again.inputs[name].dtype == array.dtype
        assert again.inputs[name].shape == array.shape
        assert again.inputs[name].tobytes() == array.tobytes()
        assert not again.inputs[name].flags.writeable


def test_a_contribution_survives_the_wire_and_still_opens() -> None:
    carried = []
    for contribution in CONTRIBUTIONS:
        reply = decode(encode(ContributionReply(contribution=contribution)))
        assert isinstance(reply, ContributionReply)
        carried.append(reply.contribution)
    expected = ROUND.open(CONTRIBUTIONS, ROUND.answers(CONTRIBUTIONS))
    assert np.array_equal(ROUND.open(carried, ROUND.answers(carried)), expected)


def test_declared_users_are_those_that_the_clients_signed() -> None:
    reply, request = decode(encode(MESSAGES[1])), decode(encode(MESSAGES[2]))
    assert isinstance(reply, ContributionReply)
    assert isinstance(request, UnmaskRequest)
    assert reply.declared_users == 10
    assert request.declared_users == (10, 10, 10)


def test_a_refusal_is_made_of_an_error_and_always_fits() -> None:
    refusal = Refusal.of("amber", BudgetExhausted("no more \ud800" + "x" * 5_000))
    assert refusal.error == "BudgetExhausted"
    assert refusal.message.startswith("no more ?xxx")
    assert decode(encode(refusal)) == refusal


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
def test_a_message_cut_anywhere_is_malformed(message: Message) -> None:
    data = encode(message)
    for size in range(len(data)):
        with pytest.raises(MalformedMessage):
            decode(data[:size])
    with pytest.raises(MalformedMessage):
        decode(data + b"\0")


@pytest.mark.parametrize("bit", [0x01, 0x20])  # the second one turns small letters into capitals
@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
def test_every_byte_counts(message: Message, bit: int) -> None:
    # A flipped byte is malformed or another message: never the same one, never another error.
    data = encode(message)
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= bit
        try:
            assert encode(decode(bytes(broken))) == bytes(broken) != data
        except MalformedMessage:
            continue


def fields_of(message: Message) -> tuple[int, dict[str, Any], dict[str, bytes]]:
    unpacked = unpack_frame(encode(message))
    return unpacked.kind, dict(unpacked.header), dict(unpacked.sections)


def decoded_with(message: Message, header: dict[str, Any], sections: dict[str, bytes]) -> Message:
    kind, own_header, own_sections = fields_of(message)
    return decode(pack_frame(Frame(kind=kind, header={**own_header, **header}, sections={**own_sections, **sections})))


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
def test_a_field_or_section_too_many_or_too_few_is_malformed(message: Message) -> None:
    kind, header, sections = fields_of(message)
    for name in header:
        rest = {key: value for key, value in header.items() if key != name}
        with pytest.raises(MalformedMessage):
            decode(pack_frame(Frame(kind=kind, header=rest, sections=sections)))
    for name in sections:
        fewer = {key: value for key, value in sections.items() if key != name}
        with pytest.raises(MalformedMessage):
            decode(pack_frame(Frame(kind=kind, header=header, sections=fewer)))
    with pytest.raises(MalformedMessage, match="does not belong"):
        decoded_with(message, {"extra": 1}, {})
    with pytest.raises(MalformedMessage, match="does not belong"):
        decoded_with(message, {}, {"zzz": b""})


WRONG_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.0,
    2**53,
    "",
    "x",
    [],
    {},
    [[]],
    [{}],
    {"a": 1},
    "ab" * 32,
    "AB" * 32,
)


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
def test_a_field_of_another_type_or_size_is_malformed_or_kept_as_it_is(message: Message) -> None:
    kind, header, sections = fields_of(message)
    for name in header:
        for value in WRONG_VALUES:
            data = pack_frame(Frame(kind=kind, header={**header, name: value}, sections=sections))
            try:
                assert encode(decode(data)) == data
            except MalformedMessage:
                continue


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (0, {"step": True}),
        (0, {"attempt": -1}),
        (0, {"step": 1.0}),
        (0, {"plan": []}),
        (0, {"inputs": {"head": 5}}),
        (0, {"inputs": {"head": {"type": "int32", "shape": [3]}}}),  # item_factors is left over
        (1, {"client": "Amber"}),
        (1, {"client": "../amber"}),
        (1, {"declared_users": 0}),
        (1, {"ctx": "ab" * 31}),
        (1, {"signature": "AB" * 64}),
        (1, {"seals": [{"helper": "north", "seal": "ab" * 80}]}),
        (1, {"seals": [{**SEAL, "seal": "ab" * 79}]}),
        (1, {"seals": [{**SEAL, "slot": 5}]}),
        (1, {"seals": [{**SEAL, "slot": "x" * 201}]}),
        (1, {"seals": [{**SEAL, "helper": "north+south"}]}),
        (1, {"seals": [{**SEAL, "more": 1}]}),
        (1, {"seals": [SEAL] * 65}),
        (2, {"slots": []}),
        (2, {"slots": "north"}),
        (2, {"slots": ["north", 5]}),
        (2, {"slots": ["x" * 201]}),
        (2, {"slots": ["north"] * 65}),
        (3, {"slots": []}),
        (3, {"slots": [["north"]]}),
        (2, {"headers": [{}] * 4_001}),
        (2, {"headers": {}}),
        (2, {"inputs_digest": ""}),
        (3, {"cohort": "ab"}),
        (4, {"error": "x" * 65}),
        (4, {"message": "x" * 1_001}),
        (4, {"party": ""}),
        (5, {"client": ""}),
        (5, {"client": ["birch", "cedar"]}),
        (5, {"client": "../birch"}),
        (5, {"client": "b" * 65}),
        (5, {"helper": None}),
        (5, {"ctx": "ab" * 33}),
        (5, {"signature": ""}),
    ],
)
def test_a_value_that_no_honest_peer_sends_is_malformed(message: int, change: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        decoded_with(MESSAGES[message], change, {})


@pytest.mark.parametrize(
    ("description", "data"),
    [
        ({"type": "int32", "shape": [4]}, bytes(12)),
        ({"type": "int32", "shape": [-3]}, bytes(12)),
        ({"type": "int32", "shape": [-1, -3]}, bytes(12)),
        ({"type": "int32", "shape": [True, 3]}, bytes(12)),
        ({"type": "int32", "shape": [3.0]}, bytes(12)),
        ({"type": "int32", "shape": []}, bytes(4)),
        ({"type": "int32", "shape": [1, 1, 3]}, bytes(12)),
        ({"type": "int32", "shape": [2**40, 2**40]}, bytes(12)),
        ({"type": "int32", "shape": "3"}, bytes(12)),
        ({"type": "object", "shape": [3]}, bytes(24)),
        ({"type": "float16", "shape": [6]}, bytes(12)),
        ({"type": 5, "shape": [3]}, bytes(12)),
        ({"type": "int32", "shape": [3], "order": "F"}, bytes(12)),
        ({"shape": [3]}, bytes(12)),
        ({"type": "float64", "shape": [1]}, struct.pack("<d", float("nan"))),
        ({"type": "float32", "shape": [1]}, struct.pack("<f", float("inf"))),
    ],
)
def test_an_array_that_does_not_fit_its_bytes_is_malformed(description: dict[str, Any], data: bytes) -> None:
    request = replace(REQUEST, inputs={})
    with pytest.raises(MalformedMessage):
        decoded_with(request, {"inputs": {"head": description}}, {"input.head": data})


@pytest.mark.parametrize(
    "message",
    [
        replace(REQUEST, step=-1),
        replace(REQUEST, plan_json={"mu": float("nan")}),
        replace(REQUEST, plan_json={"mu": object()}),
        replace(REQUEST, inputs={"head": np.array(["a"])}),
        replace(REQUEST, inputs={"head": np.array(5)}),
        replace(REQUEST, inputs={"": np.array([5]), "b?d": np.array([5])}),
        replace(REQUEST, inputs={"x" * 300: np.array([5])}),
        replace(REQUEST, inputs={"v": np.array([float("inf")])}),
        Refusal(party="Nobody!", error="E", message=""),
        Refusal(party="amber", error="E", message="\ud800"),
        "a string",
    ],
)
def test_what_could_not_be_decoded_is_not_encoded(message: Any) -> None:
    with pytest.raises(MalformedMessage):
        encode(message)


def raw_frame(header: bytes, *, sections: bytes = b"\0\0", kind: int = 5, start: bytes = b"ZHIY\1") -> bytes:
    return start + bytes([kind]) + struct.pack(">I", len(header)) + header + sections


REFUSAL = canonical_json({"party": "amber", "error": "E", "message": "m"})


def test_the_raw_frame_of_these_tests_is_a_good_one() -> None:
    assert decode(raw_frame(REFUSAL)) == Refusal(party="amber", error="E", message="m")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        raw_frame(REFUSAL, start=b"ZHIX\1"),
        raw_frame(REFUSAL, start=b"ZHIY\2"),
        raw_frame(REFUSAL, kind=0),
        raw_frame(REFUSAL, kind=6),
        raw_frame(REFUSAL, kind=7),
        raw_frame(b""),
        raw_frame(b"[]"),
        raw_frame(b"5"),
        raw_frame(b"{" * 1_000),
        raw_frame(b"[" * 1_000_000),
        raw_frame(b'{"a":' * 100_000),
        raw_frame(b" " + REFUSAL),
        raw_frame(b'{"party":"amber","error":"E","message":"m"}'),  # keys not in order
        raw_frame(b'{"error":"E","error":"E","message":"m","party":"amber"}'),
        raw_frame(b'{"error":"E","message":"\\u006d","party":"amber"}'),
        raw_frame(b'{"error":"E","message":"\\ud800","party":"amber"}'),
        raw_frame(b'{"error":"E","message":NaN,"party":"amber"}'),
        raw_frame(b'{"error":"E","message":1e999,"party":"amber"}'),
        raw_frame(b'{"error":"E","message":' + b"9" * 5_000 + b',"party":"amber"}'),
        raw_frame(REFUSAL[:-1] + b"\xff}"),
        raw_frame(REFUSAL, sections=b"\0"),
        raw_frame(REFUSAL, sections=b"\0\1"),
        raw_frame(REFUSAL, sections=b"\0\1\1a" + bytes([255] * 8)),
        raw_frame(REFUSAL, sections=b"\0\1\0" + bytes(8)),
        raw_frame(REFUSAL, sections=b"\0\1\1\x80" + bytes(8)),
        raw_frame(REFUSAL, sections=b"\0\2\1b" + bytes(8) + b"\1a" + bytes(8)),
        raw_frame(REFUSAL, sections=b"\0\2\1a" + bytes(8) + b"\1a" + bytes(8)),
        raw_frame(REFUSAL, sections=b"\xff\xff"),
        raw_frame(REFUSAL) + b"\0",
    ],
)
def test_a_frame_that_is_not_the_one_encoding_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(data)


@pytest.mark.parametrize(
    "sections",
    [
        b"\0\2\1a" + bytes(8) + b"\1a" + bytes(8),
        b"\0\2\1b" + bytes(8) + b"\1a" + bytes(8),
        b"\0\1\0" + bytes(8),
        b"\0\1\1\x80" + bytes(8),
        b"\0\1\1?" + bytes(8),
        b"\0\1\1a" + bytes(7) + b"\1",
    ],
)
def test_sections_that_are_repeated_disordered_misnamed_or_cut_make_no_frame(sections: bytes) -> None:
    unpack_frame(raw_frame(REFUSAL, sections=b"\0\2\1a" + bytes(8) + b"\1b" + bytes(8)))
    with pytest.raises(MalformedMessage):
        unpack_frame(raw_frame(REFUSAL, sections=sections))


def test_lengths_that_promise_more_than_there_is_allocate_nothing() -> None:
    bombs = [
        raw_frame(REFUSAL, sections=b"\0\1\1a" + struct.pack(">Q", 2**40)),
        b"ZHIY\1\5" + struct.pack(">I", 2**32 - 1) + b"{}",
        raw_frame(b'{"a":' + b"[" * 3_000_000),
    ]
    tracemalloc.start()
    try:
        for bomb in bombs:
            with pytest.raises(MalformedMessage):
                decode(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * 2**20


def test_sizes_are_limited_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(REQUEST)
    for name, most in (("MAX_FRAME_BYTES", len(data) - 1), ("MAX_HEADER_BYTES", 50), ("MAX_SECTIONS", 2)):
        with monkeypatch.context() as limited:
            limited.setattr(frame, name, most)
            with pytest.raises(MalformedMessage, match="more than"):
                decode(data)
            with pytest.raises(MalformedMessage, match="more than"):
                encode(REQUEST)
    for kind in (0, 256):
        with pytest.raises(MalformedMessage):
            pack_frame(Frame(kind=kind, header={}, sections={}))


def test_the_digest_of_inputs_is_about_names_types_shapes_and_values() -> None:
    head = np.array([1, 2, 3, 4], dtype=np.int32)
    variants = [
        {},
        {"head": head},
        {"tail": head},
        {"head": head.astype(np.int64)},
        {"head": head.view(np.float32)},
        {"head": head.reshape(2, 2)},
        {"head": head[::-1]},
        {"head": head, "tail": head},
        {"head": head[:2], "tail": head[2:]},
    ]
    assert len({inputs_digest(variant) for variant in variants}) == len(variants)
    assert inputs_digest({"a": head, "b": head[:1]}) == inputs_digest({"b": head[:1].copy(), "a": head})
    assert inputs_digest({"a": np.asfortranarray(np.eye(2))}) == inputs_digest({"a": np.eye(2)})
    with pytest.raises(MalformedMessage):
        inputs_digest({"head": np.array(["a"])})


def test_the_representation_of_a_message_does_not_pour_vectors_into_a_log() -> None:
    reply = ContributionReply(contribution=replace(CONTRIBUTIONS[0], masked=bytes(10**6)))
    assert len(repr(reply)) < 5_000
    assert "masked" not in repr(reply)
    assert "mask_sum" not in repr(MESSAGES[3])
    assert "-1." not in repr(REQUEST)
