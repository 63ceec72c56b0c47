"""A helper's signed word that the seal of one client does not open, so that the next attempt can do without the client.

The signature binds it to the helper and to one context: no other node can speak in the helper's place, and it says
nothing about another round. It is a claim and no proof, for only the helper holds the key that opens the seal; how far
it is believed is for the server's rounds to bound.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import WrongContext
from shared.roster import Roster
from shared.secagg.context import CONTEXT_BYTES, join_fields

_LABEL = b"zhiyin/complaint/1"


@dataclass(frozen=True, kw_only=True)
class Complaint:
    """What a helper sends in place of an answer. client: the one whose seal does not open; always exactly one."""

    helper: str
    ctx: bytes
    client: str
    signature: bytes


def complain(*, ctx: bytes, helper: str, client: str, signing_key: Ed25519PrivateKey) -> Complaint:
    """Raises WrongContext for a context of another size."""
    if len(ctx) != CONTEXT_BYTES:
        raise WrongContext(f"a context has {CONTEXT_BYTES} bytes, got {len(ctx)}")
    signature = signing_key.sign(_message(ctx, helper, client))
    return Complaint(helper=helper, ctx=ctx, client=client, signature=signature)


def verify_complaint(complaint: Complaint, *, ctx: bytes, roster: Roster, now: int) -> None:
    """Raise WrongContext, UnknownKey, ExpiredKey or BadSignature unless a helper on the roster signed it in `ctx`."""
    member = roster.member_as(complaint.helper, "helper", now)
    if complaint.ctx != ctx:
        raise WrongContext(f"the complaint of {complaint.helper} is about another round or other parameters")
    member.verify(complaint.signature, _message(ctx, complaint.helper, complaint.client))


def _message(ctx: bytes, helper: str, client: str) -> bytes:
    return join_fields(_LABEL, ctx, helper.encode(), client.encode())
