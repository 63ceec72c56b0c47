"""Whatever bytes arrive, a decoder gives a message or raises MalformedMessage; no other error, no guess."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.canonical import canonical_json
from shared.errors import BadSignature, ExpiredKey, MalformedMessage
from shared.frame import Frame, pack_frame, unpack_frame
from shared.roster import open_roster, sign_roster
from shared.wire import decode, encode
from tests.secagg_cast import NOW, ROSTER, public_hex, signing_key
from tests.unit.test_wire import MESSAGES

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def decodes_or_is_malformed(data: bytes) -> None:
    try:
        message = decode(data)
    except MalformedMessage:
        return
    assert encode(message) == data


@given(st.binary(max_size=300))
@example(b"ZHIY")
@settings(max_examples=300)
def test_arbitrary_bytes(data: bytes) -> None:
    decodes_or_is_malformed(data)
    decodes_or_is_malformed(b"ZHIY\1" + data)


@given(
    message=st.sampled_from(MESSAGES),
    edits=st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 2), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4
    ),
)
@settings(max_examples=400)
def test_mutations_of_good_messages(message: Any, edits: list[tuple[int, int, bytes]]) -> None:
    data = encode(message)
    for place, action, patch in edits:
        position = place % (len(data) + 1)
        removed = (0, len(patch), 1)[action]
        data = data[:position] + (b"" if action == 2 else patch) + data[position + removed :]
    decodes_or_is_malformed(data)


@given(message=st.sampled_from(MESSAGES), data=st.data())
@settings(max_examples=300)
def test_good_frames_with_any_json_in_a_field(message: Any, data: Any) -> None:
    good = unpack_frame(encode(message))
    name = data.draw(st.sampled_from(sorted(good.header)))
    header = {**good.header, name: data.draw(JSON)}
    try:
        packed = pack_frame(Frame(kind=good.kind, header=header, sections=good.sections))
    except MalformedMessage:  # text that is not Unicode, e.g. half of a surrogate pair
        return
    decodes_or_is_malformed(packed)


@given(
    kind=st.integers(1, 255),
    header=st.dictionaries(st.text(max_size=8), JSON, max_size=4),
    sections=st.dictionaries(st.from_regex(r"[a-z.]{1,12}", fullmatch=True), st.binary(max_size=40), max_size=4),
)
def test_a_frame_comes_back_as_it_was(kind: int, header: dict[str, Any], sections: dict[str, bytes]) -> None:
    sent = Frame(kind=kind, header=header, sections=sections)
    try:
        data = pack_frame(sent)
    except MalformedMessage:
        return
    again = unpack_frame(data)
    assert (again.kind, canonical_json(dict(again.header)), again.sections) == (kind, canonical_json(header), sections)
    decodes_or_is_malformed(data)


ISSUER = signing_key("issuer")
SIGNED = sign_roster(ROSTER, ISSUER)


@given(st.binary(max_size=200), st.booleans())
def test_a_roster_of_arbitrary_bytes_is_refused_by_name(body: bytes, signed: bool) -> None:
    data = ISSUER.sign(b"zhiyin/roster/2\x00" + body) + body if signed else body
    try:
        open_roster(data, public_hex(ISSUER), NOW)
    except (BadSignature, MalformedMessage):
        return
    raise AssertionError("arbitrary bytes opened as a roster")


@given(change=st.dictionaries(st.sampled_from(["format", "issued_at", "expires_at", "entries", "x"]), JSON, max_size=2))
def test_a_signed_roster_with_any_json_in_a_field_is_refused_by_name_or_opens(change: dict[str, Any]) -> None:
    good = {"format": "zhiyin-roster-1", "issued_at": 0, "expires_at": 2 * NOW, "entries": []}
    try:
        body = canonical_json({**good, **change})
    except ValueError:
        return
    data = ISSUER.sign(b"zhiyin/roster/2\x00" + body) + body
    try:
        open_roster(data, public_hex(ISSUER), NOW)
    except (MalformedMessage, ExpiredKey):
        return
