"""The messages of topology P and their codecs, a table of their own that `shared.wire` takes in.

    server -> tenant                    tenant -> server
    KeysRequest       which round       KeysReply       Bundle
    DealRequest       all bundles       DealReply       Dealing
    MaskRequest       shares, inputs    MaskReply       MaskedVector
    SignRequest       the active set    SignReply       ActiveSignature
    OpenRequest       signatures        OpenReply       Unmasking
    ProofRequest      one dealing       ProofReply      ShareComplaint

In place of a MaskReply a SharesUnopened says whose shares do not open; the server can then ask for the proof. Every
reply can be a Refusal instead. Requests after the first name their round by its context alone: the tenant keeps
the rest, and believes no second version of it.
"""

from dataclasses import dataclass, field
from typing import Any

from shared.errors import BadSetting, MalformedMessage
from shared.secagg.exchange_proof import POINT_BYTES, PROOF_BYTES
from shared.secagg.graph import MAX_PARTIES
from shared.secagg.pairwise_messages import (
    DIGEST_BYTES,
    KEY_BYTES,
    SEALED_BYTES,
    SIGNATURE_BYTES,
    ActiveSignature,
    Bundle,
    Dealing,
    Delivery,
    MaskedVector,
    SealedShares,
    Unmasking,
)
from shared.secagg.pairwise_terms import PairwiseTerms
from shared.secagg.seal_key import POSSESSION_BYTES
from shared.secagg.shamir import SHARE_BYTES
from shared.secagg.share_complaint import ShareComplaint
from shared.wire_fields import Fields, FromFields, Inputs, ToFrame, inputs_from, inputs_to

_Frame = tuple[dict[str, Any], dict[str, bytes]]
_TERMS = ("num_parties", "degree", "threshold", "min_active")


@dataclass(frozen=True, kw_only=True)
class KeysRequest:
    """Asks a tenant for its keys for one step of a plan, under these numbers. roster: signed bytes."""

    plan_json: dict[str, Any]
    step: int
    attempt: int
    roster: bytes
    inputs_digest: bytes
    terms: PairwiseTerms


@dataclass(frozen=True, kw_only=True)
class KeysReply:
    bundle: Bundle


@dataclass(frozen=True, kw_only=True)
class DealRequest:
    """Everybody's keys, sorted by name."""

    ctx: bytes
    bundles: tuple[Bundle, ...]


@dataclass(frozen=True, kw_only=True)
class DealReply:
    dealing: Dealing


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskRequest:
    """The shares for this tenant, and the public arrays of the step, whose digest is in the context."""

    ctx: bytes
    deliveries: tuple[Delivery, ...]
    inputs: Inputs = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class MaskReply:
    vector: MaskedVector


@dataclass(frozen=True, kw_only=True)
class SignRequest:
    """Whose vectors arrived, sorted by name."""

    ctx: bytes
    active: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SignReply:
    signature: ActiveSignature


@dataclass(frozen=True, kw_only=True)
class OpenRequest:
    """Other parties' signatures on the set that this tenant signed."""

    ctx: bytes
    signatures: tuple[ActiveSignature, ...]


@dataclass(frozen=True, kw_only=True)
class OpenReply:
    unmasking: Unmasking


@dataclass(frozen=True, kw_only=True)
class SharesUnopened:
    """In place of a masked vector: the shares that `dealer` sealed to `client` were delivered and do not open."""

    client: str
    ctx: bytes
    dealer: str


@dataclass(frozen=True, kw_only=True)
class ProofRequest:
    """The whole dealing, with its signature, in which this tenant's shares are said not to open."""

    dealing: Dealing

    @property
    def ctx(self) -> bytes:
        """The round's."""
        return self.dealing.ctx


@dataclass(frozen=True, kw_only=True)
class ProofReply:
    complaint: ShareComplaint


PairwiseMessage = (
    KeysRequest | KeysReply | DealRequest | DealReply | MaskRequest
    | MaskReply | SignRequest | SignReply | OpenRequest | OpenReply
    | SharesUnopened | ProofRequest | ProofReply
)  # fmt: skip


def _keys_request_to_frame(message: KeysRequest) -> _Frame:
    header = {
        "plan": message.plan_json,
        "step": message.step,
        "attempt": message.attempt,
        "inputs_digest": message.inputs_digest.hex(),
        "terms": {name: getattr(message.terms, name) for name in _TERMS},
    }
    return header, {"roster": message.roster}


def _keys_request(fields: Fields) -> KeysRequest:
    terms = Fields(fields.mapping("terms"), {})
    try:
        read = PairwiseTerms(**{name: terms.integer(name, least=1) for name in _TERMS})
    except BadSetting as error:
        raise MalformedMessage(str(error)) from error
    terms.end()
    return KeysRequest(
        plan_json=fields.mapping("plan"),
        step=fields.integer("step"),
        attempt=fields.integer("attempt"),
        roster=fields.section("roster"),
        inputs_digest=fields.digits("inputs_digest", DIGEST_BYTES),
        terms=read,
    )


def _bundle_to(bundle: Bundle) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in vars(bundle).items()}


def _bundle(fields: Fields) -> Bundle:
    bundle = Bundle(
        client=fields.party("client"),
        ctx=fields.digits("ctx", DIGEST_BYTES),
        declared_users=fields.integer("declared_users", least=1),
        mask_key=fields.digits("mask_key", KEY_BYTES),
        seal_key=fields.digits("seal_key", KEY_BYTES),
        possession=fields.digits("possession", POSSESSION_BYTES),
        commitment=fields.digits("commitment", DIGEST_BYTES),
        signature=fields.digits("signature", SIGNATURE_BYTES),
    )
    fields.end()
    return bundle


def _deal_request_to_frame(message: DealRequest) -> _Frame:
    return {"ctx": message.ctx.hex(), "bundles": [_bundle_to(bundle) for bundle in message.bundles]}, {}


def _deal_request(fields: Fields) -> DealRequest:
    return DealRequest(
        ctx=fields.digits("ctx", DIGEST_BYTES),
        bundles=tuple(_bundle(each) for each in fields.objects("bundles", MAX_PARTIES)),
    )


def _shares_to(shares: SealedShares) -> dict[str, str]:
    return {
        "receiver": shares.receiver,
        "sealed": shares.sealed.hex(),
        "self_digest": shares.self_digest.hex(),
        "key_digest": shares.key_digest.hex(),
    }


def _shares(fields: Fields) -> SealedShares:
    return SealedShares(
        receiver=fields.party("receiver"),
        sealed=fields.digits("sealed", SEALED_BYTES),
        self_digest=fields.digits("self_digest", DIGEST_BYTES),
        key_digest=fields.digits("key_digest", DIGEST_BYTES),
    )


def _start_to(message: Dealing | MaskedVector | ActiveSignature | Unmasking) -> dict[str, Any]:
    return {
        "client": message.client,
        "ctx": message.ctx.hex(),
        "root": message.root.hex(),
        "signature": message.signature.hex(),
    }


def _start(fields: Fields) -> dict[str, Any]:
    return {
        "client": fields.party("client"),
        "ctx": fields.digits("ctx", DIGEST_BYTES),
        "root": fields.digits("root", DIGEST_BYTES),
        "signature": fields.digits("signature", SIGNATURE_BYTES),
    }


def _dealing_to(dealing: Dealing) -> dict[str, Any]:
    return {**_start_to(dealing), "shares": [_shares_to(each) for each in dealing.shares]}


def _dealing(fields: Fields) -> Dealing:
    return Dealing(**_start(fields), shares=tuple(_ended(_shares, fields, "shares")))


def _mask_request_to_frame(message: MaskRequest) -> _Frame:
    described, sections = inputs_to(message.inputs)
    deliveries = [{"sender": each.sender, **_shares_to(each.shares)} for each in message.deliveries]
    return {"ctx": message.ctx.hex(), "deliveries": deliveries, "inputs": described}, sections


def _mask_request(fields: Fields) -> MaskRequest:
    def delivery(each: Fields) -> Delivery:
        return Delivery(sender=each.party("sender"), shares=_shares(each))

    return MaskRequest(
        ctx=fields.digits("ctx", DIGEST_BYTES),
        deliveries=tuple(_ended(delivery, fields, "deliveries")),
        inputs=inputs_from(fields),
    )


def _mask_reply_to_frame(message: MaskReply) -> _Frame:
    return _start_to(message.vector), {"masked": message.vector.masked}


def _mask_reply(fields: Fields) -> MaskReply:
    return MaskReply(vector=MaskedVector(**_start(fields), masked=fields.section("masked")))


def _sign_request_to_frame(message: SignRequest) -> _Frame:
    return {"ctx": message.ctx.hex(), "active": [{"client": name} for name in message.active]}, {}


def _sign_request(fields: Fields) -> SignRequest:
    return SignRequest(
        ctx=fields.digits("ctx", DIGEST_BYTES),
        active=tuple(_ended(lambda each: each.party("client"), fields, "active")),
    )


def _signature_to(signature: ActiveSignature) -> dict[str, Any]:
    return {**_start_to(signature), "active": signature.active.hex()}


def _signature(fields: Fields) -> ActiveSignature:
    return ActiveSignature(**_start(fields), active=fields.digits("active", DIGEST_BYTES))


def _open_request_to_frame(message: OpenRequest) -> _Frame:
    return {"ctx": message.ctx.hex(), "signatures": [_signature_to(each) for each in message.signatures]}, {}


def _open_request(fields: Fields) -> OpenRequest:
    return OpenRequest(
        ctx=fields.digits("ctx", DIGEST_BYTES), signatures=tuple(_ended(_signature, fields, "signatures"))
    )


def _open_reply_to_frame(message: OpenReply) -> _Frame:
    sent = message.unmasking
    lists = {"self_shares": sent.self_shares, "key_shares": sent.key_shares}
    told = {name: [{"owner": owner, "share": share.hex()} for owner, share in shares] for name, shares in lists.items()}
    return {**_start_to(sent), "active": sent.active.hex(), **told}, {}


def _open_reply(fields: Fields) -> OpenReply:
    def share(each: Fields) -> tuple[str, bytes]:
        return each.party("owner"), each.digits("share", SHARE_BYTES)

    return OpenReply(
        unmasking=Unmasking(
            **_start(fields),
            active=fields.digits("active", DIGEST_BYTES),
            self_shares=tuple(_ended(share, fields, "self_shares")),
            key_shares=tuple(_ended(share, fields, "key_shares")),
        )
    )


def _unopened(fields: Fields) -> SharesUnopened:
    return SharesUnopened(
        client=fields.party("client"), ctx=fields.digits("ctx", DIGEST_BYTES), dealer=fields.party("dealer")
    )


def _complaint_to(complaint: ShareComplaint) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in vars(complaint).items()}


def _complaint(fields: Fields) -> ShareComplaint:
    return ShareComplaint(
        **_start(fields),
        dealer=fields.party("dealer"),
        dealt=fields.digits("dealt", DIGEST_BYTES),
        exchange=fields.digits("exchange", POINT_BYTES),
        proof=fields.digits("proof", PROOF_BYTES),
    )


def _ended(read: FromFields, fields: Fields, name: str) -> list[Any]:
    # Each object of a list, read to its end.
    found = []
    for each in fields.objects(name, MAX_PARTIES):
        found.append(read(each))
        each.end()
    return found


PAIRWISE_CODECS: dict[int, tuple[type[Any], ToFrame, FromFields]] = {
    16: (KeysRequest, _keys_request_to_frame, _keys_request),
    17: (KeysReply, lambda message: (_bundle_to(message.bundle), {}), lambda fields: KeysReply(bundle=_bundle(fields))),
    18: (DealRequest, _deal_request_to_frame, _deal_request),
    19: (DealReply, lambda message: (_dealing_to(message.dealing), {}),
         lambda fields: DealReply(dealing=_dealing(fields))),
    20: (MaskRequest, _mask_request_to_frame, _mask_request),
    21: (MaskReply, _mask_reply_to_frame, _mask_reply),
    22: (SignRequest, _sign_request_to_frame, _sign_request),
    23: (SignReply, lambda message: (_signature_to(message.signature), {}),
         lambda fields: SignReply(signature=_signature(fields))),
    24: (OpenRequest, _open_request_to_frame, _open_request),
    25: (OpenReply, _open_reply_to_frame, _open_reply),
    26: (SharesUnopened, lambda message: ({**vars(message), "ctx": message.ctx.hex()}, {}), _unopened),
    27: (ProofRequest, lambda message: (_dealing_to(message.dealing), {}),
         lambda fields: ProofRequest(dealing=_dealing(fields))),
    28: (ProofReply, lambda message: (_complaint_to(message.complaint), {}),
         lambda fields: ProofReply(complaint=_complaint(fields))),
}  # fmt: skip
