"""The messages of topology P keep their content over the wire, and other bytes are refused as malformed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.errors import MalformedMessage
from shared.frame import Frame, pack_frame, unpack_frame
from shared.secagg.pairwise_opening import deliveries_to
from shared.secagg.share_complaint import ShareComplaint
from shared.wire import decode, encode
from shared.wire_pairwise import (
    PAIRWISE_CODECS,
    DealReply,
    DealRequest,
    KeysReply,
    KeysRequest,
    MaskReply,
    MaskRequest,
    OpenReply,
    OpenRequest,
    ProofReply,
    ProofRequest,
    SharesUnopened,
    SignReply,
    SignRequest,
)
from tests.pairwise_cast import Round

ROUND = Round()
COURSE = ROUND.run(r2=[ROUND.names[3]])
INPUTS = {"head": np.arange(3, dtype=np.int32), "item_factors": np.ones((2, 2))}
MESSAGES: list[Any] = [
    KeysRequest(plan_json={"a": 1}, step=1, attempt=2, roster=b"r", inputs_digest=bytes(32), terms=ROUND.terms),
    KeysReply(bundle=COURSE.bundles[0]),
    DealRequest(ctx=ROUND.ctx, bundles=tuple(COURSE.bundles)),
    DealReply(dealing=COURSE.dealings[0]),
    MaskRequest(ctx=ROUND.ctx, deliveries=deliveries_to(ROUND.names[0], COURSE.dealings), inputs=INPUTS),
    MaskReply(vector=COURSE.vectors[0]),
    SignRequest(ctx=ROUND.ctx, active=COURSE.active),
    SignReply(signature=COURSE.signatures[0]),
    OpenRequest(ctx=ROUND.ctx, signatures=tuple(COURSE.signatures)),
    OpenReply(unmasking=COURSE.unmaskings[0]),
    SharesUnopened(client=ROUND.names[0], ctx=ROUND.ctx, dealer=ROUND.names[1]),
    ProofRequest(dealing=COURSE.dealings[1]),
    ProofReply(
        complaint=ShareComplaint(
            client=ROUND.names[0],
            ctx=ROUND.ctx,
            root=COURSE.agreement.root,
            dealer=ROUND.names[1],
            dealt=bytes(32),
            exchange=bytes(32),
            proof=bytes(64),
            signature=bytes(64),
        )
    ),
]


def test_every_kind_of_message_is_tried_here() -> None:
    assert [type(message) for message in MESSAGES] == [known for known, _, _ in PAIRWISE_CODECS.values()]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was(message: Any) -> None:
    again: Any = decode(encode(message))
    if isinstance(message, MaskRequest):
        assert (again.ctx, again.deliveries) == (message.ctx, message.deliveries)
        assert all(np.array_equal(again.inputs[name], array) for name, array in INPUTS.items())
    else:
        assert again == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_with_a_field_missing_added_or_of_another_type_is_refused(message: Any) -> None:
    frame = unpack_frame(encode(message))

    def refused(header: Any, sections: Any) -> None:
        with pytest.raises(MalformedMessage):
            decode(pack_frame(Frame(kind=frame.kind, header=header, sections=sections)))

    for name in frame.header:
        refused({key: value for key, value in frame.header.items() if key != name}, frame.sections)
        for value in (None, 1.5, "../x", [None], [{}], -1):
            refused({**frame.header, name: value}, frame.sections)
    for name in frame.sections:
        refused(frame.header, {key: value for key, value in frame.sections.items() if key != name})
    refused({**frame.header, "extra": 1}, frame.sections)
    refused(frame.header, {**frame.sections, "zz": b""})


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_an_object_of_a_list_with_a_field_too_many_is_refused(message: Any) -> None:
    frame = unpack_frame(encode(message))
    for name, value in frame.header.items():
        if isinstance(value, list) and value:
            changed = {**frame.header, name: [{**value[0], "extra": 1}, *value[1:]]}
            with pytest.raises(MalformedMessage):
                decode(pack_frame(Frame(kind=frame.kind, header=changed, sections=frame.sections)))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_no_flipped_byte_gives_the_same_message_or_another_error(message: Any) -> None:
    data = encode(message)
    for position in range(0, len(data), 1 + len(data) // 300):
        broken = data[:position] + bytes([data[position] ^ 0x04]) + data[position + 1 :]
        try:
            again = decode(broken)
        except MalformedMessage:
            continue
        assert encode(again) == broken != data


def test_terms_that_are_none_and_shares_of_another_size_are_refused() -> None:
    frame = unpack_frame(encode(MESSAGES[0]))
    for terms in ({"num_parties": 8, "degree": 7, "threshold": 9, "min_active": 5}, {"num_parties": 8}):
        with pytest.raises(MalformedMessage):
            decode(pack_frame(Frame(kind=16, header={**frame.header, "terms": terms}, sections=frame.sections)))
    first, *rest = COURSE.unmaskings[0].self_shares
    short = replace(COURSE.unmaskings[0], self_shares=((first[0], first[1][1:]), *rest))
    with pytest.raises(MalformedMessage):
        encode(OpenReply(unmasking=short))


def test_a_reply_shows_no_share_in_its_repr() -> None:
    text = repr(OpenReply(unmasking=COURSE.unmaskings[0]))
    for _, share in COURSE.unmaskings[0].self_shares:
        assert share.hex() not in text
        assert repr(share)[2:-1] not in text
