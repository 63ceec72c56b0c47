"""The messages between server and clients, and their one strict encoding; topology P adds those of `wire_pairwise`.

    server -> client   ContributionRequest      client -> server   ContributionReply or Refusal
    server -> helper   UnmaskRequest            helper -> server   UnmaskReply, SealComplaint or Refusal

`decode` gives a message whose every field has its type and size, or raises MalformedMessage and nothing else. What the
fields mean (signatures, contexts, plans) is for the protocol and the policy to judge.
"""

from dataclasses import dataclass, field
from typing import Any

from shared.errors import MalformedMessage, ZhiyinError
from shared.frame import Frame, pack_frame, unpack_frame
from shared.secagg.complaint import Complaint
from shared.secagg.context import digest_fields
from shared.secagg.mask_sharing import MAX_SEALS
from shared.secagg.sealing import SEAL_BYTES
from shared.secagg.topology_h import (
    DIGEST_BYTES,
    SIGNATURE_BYTES,
    Contribution,
    ContributionHeader,
    HelperAnswer,
    Seal,
)
from shared.wire_fields import Fields as _Fields
from shared.wire_fields import FromFields, Inputs, ToFrame, array_bytes, inputs_from, inputs_to
from shared.wire_pairwise import PAIRWISE_CODECS, PairwiseMessage

MAX_CLIENTS = 4_000
MAX_SLOT_CHARACTERS = 200
MAX_REFUSAL_CHARACTERS = 1_000
_INPUTS = b"zhiyin/inputs/1"


@dataclass(frozen=True, kw_only=True, eq=False)
class ContributionRequest:
    """Asks a client for one step of a plan.

    plan_json: as `shared.plan.plan_to_json` gives it, not yet checked. roster: signed bytes.
    inputs: public arrays that the step needs, e.g. "head" int32 or "item_factors" float64; read-only after decoding.
    """

    plan_json: dict[str, Any]
    step: int
    attempt: int
    roster: bytes
    inputs: Inputs = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ContributionReply:
    contribution: Contribution

    @property
    def declared_users(self) -> int:
        return self.contribution.declared_users


@dataclass(frozen=True, kw_only=True)
class UnmaskRequest:
    """Asks a helper for the sum of its masks in `slots` over the cohort that `headers` lists."""

    plan_json: dict[str, Any]
    step: int
    attempt: int
    roster: bytes
    inputs_digest: bytes
    slots: tuple[str, ...]
    headers: tuple[ContributionHeader, ...]

    @property
    def declared_users(self) -> tuple[int, ...]:
        """Users that each client declares, in the order of `headers`; the clients' signatures cover them."""
        return tuple(header.declared_users for header in self.headers)


@dataclass(frozen=True, kw_only=True)
class UnmaskReply:
    answer: HelperAnswer


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a party did not do what it was asked. error: the name of a class in `shared.errors`."""

    party: str
    error: str
    message: str

    @classmethod
    def of(cls, party: str, error: ZhiyinError) -> "Refusal":
        # A message may quote what a peer sent, which need not be text that can be encoded.
        message = str(error)[:MAX_REFUSAL_CHARACTERS].encode(errors="replace").decode()
        return cls(party=party, error=type(error).__name__, message=message)


@dataclass(frozen=True, kw_only=True)
class SealComplaint:
    """In place of an answer: the one client whose seal does not open for this helper. Signed, unlike a refusal."""

    complaint: Complaint


Message = (
    ContributionRequest | ContributionReply | UnmaskRequest | UnmaskReply | Refusal | SealComplaint | PairwiseMessage
)


def encode(message: Message) -> bytes:
    """The frame of a message. Raises MalformedMessage for one that `decode` would refuse."""
    for kind, (known, to_frame, _) in _CODECS.items():
        if type(message) is known:
            header, sections = to_frame(message)
            frame = pack_frame(Frame(kind=kind, header=header, sections=sections))
            decode(frame)
            return frame
    raise MalformedMessage(f"{type(message).__name__} is not a message")


def decode(data: bytes) -> Message:
    """The message in a frame; raises MalformedMessage for any other bytes."""
    frame = unpack_frame(data)
    if frame.kind not in _CODECS:
        raise MalformedMessage(f"a message of unknown kind {frame.kind}")
    fields = _Fields(frame.header, frame.sections)
    message: Message = _CODECS[frame.kind][2](fields)
    fields.end()
    return message


def inputs_digest(inputs: Inputs) -> bytes:
    """32 bytes over names, types, shapes and values, whatever the order of the mapping; raises MalformedMessage."""
    fields: list[bytes] = []
    for name, array in sorted(inputs.items()):
        kind, data = array_bytes(name, array)
        fields += [
            name.encode(),
            kind.encode(),
            *(size.to_bytes(8, "big") for size in (array.ndim, *array.shape)),
            data,
        ]
    return digest_fields(_INPUTS, *fields)


def _seals_to_json(seals: tuple[Seal, ...]) -> list[dict[str, str]]:
    return [{"slot": each.slot, "helper": each.helper, "seal": each.sealed.hex()} for each in seals]


def _seals(fields: _Fields) -> tuple[Seal, ...]:
    seals = []
    for each in fields.objects("seals", MAX_SEALS):
        slot = each.text("slot", MAX_SLOT_CHARACTERS)
        seals.append(Seal(slot=slot, helper=each.party("helper"), sealed=each.digits("seal", SEAL_BYTES)))
        each.end()
    return tuple(seals)


def _slots(fields: _Fields) -> tuple[str, ...]:
    value = fields.take("slots")
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_SEALS:
        raise MalformedMessage(f"slots must be a list of 1 to {MAX_SEALS} names")
    if not all(isinstance(slot, str) and len(slot) <= MAX_SLOT_CHARACTERS for slot in value):
        raise MalformedMessage(f"slots must be names of at most {MAX_SLOT_CHARACTERS} characters")
    return tuple(value)


def _request_to_frame(message: ContributionRequest) -> tuple[dict[str, Any], dict[str, bytes]]:
    described, sections = inputs_to(message.inputs)
    header = {"plan": message.plan_json, "step": message.step, "attempt": message.attempt, "inputs": described}
    return header, {"roster": message.roster, **sections}


def _request(fields: _Fields) -> ContributionRequest:
    return ContributionRequest(
        plan_json=fields.mapping("plan"),
        step=fields.integer("step"),
        attempt=fields.integer("attempt"),
        roster=fields.section("roster"),
        inputs=inputs_from(fields),
    )


def _contribution_to_frame(message: ContributionReply) -> tuple[dict[str, Any], dict[str, bytes]]:
    sent = message.contribution
    header = {
        "client": sent.client,
        "ctx": sent.ctx.hex(),
        "declared_users": sent.declared_users,
        "seals": _seals_to_json(sent.seals),
        "signature": sent.signature.hex(),
    }
    return header, {"masked": sent.masked}


def _contribution(fields: _Fields) -> ContributionReply:
    return ContributionReply(
        contribution=Contribution(
            client=fields.party("client"),
            ctx=fields.digits("ctx", DIGEST_BYTES),
            declared_users=fields.integer("declared_users", least=1),
            masked=fields.section("masked"),
            seals=_seals(fields),
            signature=fields.digits("signature", SIGNATURE_BYTES),
        )
    )


def _unmask_to_frame(message: UnmaskRequest) -> tuple[dict[str, Any], dict[str, bytes]]:
    headers = [
        {
            "client": header.client,
            "declared_users": header.declared_users,
            "masked_digest": header.masked_digest.hex(),
            "seals": _seals_to_json(header.seals),
            "signature": header.signature.hex(),
        }
        for header in message.headers
    ]
    fields = {
        "plan": message.plan_json,
        "step": message.step,
        "attempt": message.attempt,
        "inputs_digest": message.inputs_digest.hex(),
        "slots": list(message.slots),
        "headers": headers,
    }
    return fields, {"roster": message.roster}


def _unmask(fields: _Fields) -> UnmaskRequest:
    return UnmaskRequest(
        plan_json=fields.mapping("plan"),
        step=fields.integer("step"),
        attempt=fields.integer("attempt"),
        roster=fields.section("roster"),
        inputs_digest=fields.digits("inputs_digest", DIGEST_BYTES),
        slots=_slots(fields),
        headers=tuple(_header(each) for each in fields.objects("headers", MAX_CLIENTS)),
    )


def _header(fields: _Fields) -> ContributionHeader:
    header = ContributionHeader(
        client=fields.party("client"),
        declared_users=fields.integer("declared_users", least=1),
        seals=_seals(fields),
        masked_digest=fields.digits("masked_digest", DIGEST_BYTES),
        signature=fields.digits("signature", SIGNATURE_BYTES),
    )
    fields.end()
    return header


def _answer_to_frame(message: UnmaskReply) -> tuple[dict[str, Any], dict[str, bytes]]:
    sent = message.answer
    header = {
        "helper": sent.helper,
        "ctx": sent.ctx.hex(),
        "slots": list(sent.slots),
        "cohort": sent.cohort.hex(),
        "signature": sent.signature.hex(),
    }
    return header, {"mask_sum": sent.mask_sum}


def _answer(fields: _Fields) -> UnmaskReply:
    return UnmaskReply(
        answer=HelperAnswer(
            helper=fields.party("helper"),
            ctx=fields.digits("ctx", DIGEST_BYTES),
            slots=_slots(fields),
            cohort=fields.digits("cohort", DIGEST_BYTES),
            mask_sum=fields.section("mask_sum"),
            signature=fields.digits("signature", SIGNATURE_BYTES),
        )
    )


def _refusal_to_frame(message: Refusal) -> tuple[dict[str, Any], dict[str, bytes]]:
    return dict(vars(message)), {}


def _refusal(fields: _Fields) -> Refusal:
    return Refusal(
        party=fields.party("party"),
        error=fields.text("error", 64),
        message=fields.text("message", MAX_REFUSAL_CHARACTERS),
    )


def _complaint_to_frame(message: SealComplaint) -> tuple[dict[str, Any], dict[str, bytes]]:
    sent = message.complaint
    header = {
        "helper": sent.helper,
        "ctx": sent.ctx.hex(),
        "client": sent.client,
        "signature": sent.signature.hex(),
    }
    return header, {}


def _complaint(fields: _Fields) -> SealComplaint:
    return SealComplaint(
        complaint=Complaint(
            helper=fields.party("helper"),
            ctx=fields.digits("ctx", DIGEST_BYTES),
            client=fields.party("client"),
            signature=fields.digits("signature", SIGNATURE_BYTES),
        )
    )


_CODECS: dict[int, tuple[type[Any], ToFrame, FromFields]] = {
    1: (ContributionRequest, _request_to_frame, _request),
    2: (ContributionReply, _contribution_to_frame, _contribution),
    3: (UnmaskRequest, _unmask_to_frame, _unmask),
    4: (UnmaskReply, _answer_to_frame, _answer),
    5: (Refusal, _refusal_to_frame, _refusal),
    6: (SealComplaint, _complaint_to_frame, _complaint),
    **PAIRWISE_CODECS,
}
