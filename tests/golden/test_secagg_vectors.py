"""The formats byte for byte, against vectors that a second implementation wrote, bad ones included."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared import errors
from shared.errors import BadSeal, MalformedMessage
from shared.roster import open_roster
from shared.secagg import ring
from shared.secagg.complaint import complain
from shared.secagg.context import context
from shared.secagg.mask_sharing import MaskSharing
from shared.secagg.prg import MaskSeed, add_keystreams
from shared.secagg.sealing import open_seal, seal
from shared.secagg.topology_h import contribute, helper_answer, open_sum
from shared.wire import ContributionReply, SealComplaint, UnmaskReply, decode, encode
from tests.golden import secagg_reference

VECTORS = json.loads((Path(__file__).parent / "secagg_vectors.json").read_text())
CTX = bytes.fromhex(VECTORS["context"]["ctx"])
PUBLISHED = {
    name: {key: bytes.fromhex(value) for key, value in case.items()} for name, case in VECTORS["published"].items()
}


def given_bytes(data: bytes) -> Any:
    """A source of randomness that hands out `data` and no more."""
    remaining = bytearray(data)

    def take(size: int) -> bytes:
        assert size <= len(remaining)
        taken = bytes(remaining[:size])
        del remaining[:size]
        return taken

    return take


def test_the_file_is_what_the_reference_writes() -> None:
    assert json.loads(json.dumps(secagg_reference.vectors())) == VECTORS


def test_the_primitives_give_the_published_answers() -> None:
    x25519 = PUBLISHED["RFC 7748 6.1"]
    peer = X25519PublicKey.from_public_bytes(x25519["public"])
    assert X25519PrivateKey.from_private_bytes(x25519["private"]).exchange(peer) == x25519["shared"]
    ed25519 = PUBLISHED["RFC 8032 7.1 test 1"]
    assert Ed25519PrivateKey.from_private_bytes(ed25519["private"]).sign(ed25519["message"]) == ed25519["signature"]
    aead = PUBLISHED["RFC 8439 2.8.2"]
    sealed = ChaCha20Poly1305(aead["key"]).encrypt(aead["nonce"], aead["plaintext"], aead["associated"])
    assert sealed.startswith(aead["ciphertext_start"])
    assert sealed.endswith(aead["tag"])
    hkdf = PUBLISHED["RFC 5869 A.1"]
    derived = HKDF(algorithm=SHA256(), length=42, salt=hkdf["salt"], info=hkdf["info"]).derive(hkdf["secret"])
    assert derived == hkdf["output"]
    aes = PUBLISHED["NIST SP 800-38A F.5.5"]
    encryptor = Cipher(algorithms.AES256(aes["key"]), modes.CTR(aes["counter"])).encryptor()
    assert encryptor.update(aes["plaintext"]) == aes["ciphertext"]


def test_the_reference_derives_keys_as_published() -> None:
    hkdf = PUBLISHED["RFC 5869 A.1"]
    assert secagg_reference.hkdf(hkdf["secret"], hkdf["salt"], hkdf["info"]) == hkdf["output"][:32]


def test_the_context() -> None:
    fields = VECTORS["context"]["fields"]
    assert context(**{**fields, "inputs_digest": bytes.fromhex(fields["inputs_digest"])}) == CTX


@pytest.mark.parametrize("case", VECTORS["masks"], ids=lambda case: f"{case['bits']} bits")
def test_the_masks(case: dict[str, Any]) -> None:
    bits = case["bits"]
    buffer = ring.zeros(bits, len(case["mask"]))
    add_keystreams(buffer, [MaskSeed(bytes.fromhex(case["seed"])).key(bytes.fromhex(case["ctx"]))])
    assert [int(value) % 2**bits for value in buffer] == case["mask"]


def test_the_seal() -> None:
    case = VECTORS["seal"]
    key = X25519PrivateKey.from_private_bytes(bytes.fromhex(case["private_key"]))
    secret, associated = bytes.fromhex(case["secret"]), bytes.fromhex(case["associated"])
    source = given_bytes(bytes.fromhex(case["ephemeral"]))
    sealed = seal(key.public_key().public_bytes_raw(), secret, associated=associated, random_bytes=source)
    assert sealed.hex() == case["seal"]
    assert open_seal(key, sealed, associated=associated) == secret


@pytest.mark.parametrize("case", VECTORS["seal"]["bad"], ids=lambda case: case["why"])
def test_bad_seals(case: dict[str, Any]) -> None:
    key = X25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["seal"]["private_key"]))
    with pytest.raises(BadSeal):
        open_seal(key, bytes.fromhex(case["seal"]), associated=bytes.fromhex(case["associated"]))


def sharing(case: dict[str, Any]) -> MaskSharing:
    return MaskSharing(helpers=tuple(case["helpers"]), spare=case["spare"])


@pytest.mark.parametrize("name", VECTORS["rounds"])
@pytest.mark.parametrize("client", [0, 1])
def test_the_contributions_and_their_frames(name: str, client: int) -> None:
    case = VECTORS["rounds"][name]["contributions"][client]
    shared = sharing(VECTORS["rounds"][name])
    made = contribute(
        ctx=CTX,
        client=case["client"],
        declared_users=case["declared_users"],
        values=np.array(case["values"], dtype=np.int64),
        bits=24,
        sharing=shared,
        helper_keys={helper: secagg_reference.sealing_public(helper) for helper in shared.helpers},
        signing_key=Ed25519PrivateKey.from_private_bytes(secagg_reference.private("sign", case["client"])),
        random_bytes=given_bytes(bytes.fromhex(case["random"])),
    )
    assert made.masked.hex() == case["masked"]
    assert made.signature.hex() == case["signature"]
    assert encode(ContributionReply(contribution=made)).hex() == case["frame"]
    assert decode(bytes.fromhex(case["frame"])) == ContributionReply(contribution=made)


@pytest.mark.parametrize("name", VECTORS["rounds"])
def test_the_answers_their_frames_and_the_sum(name: str) -> None:
    signed, the_round = VECTORS["roster"], VECTORS["rounds"][name]
    roster = open_roster(bytes.fromhex(signed["signed"]), signed["issuer"], 500)
    replies = [decode(bytes.fromhex(case["frame"])) for case in the_round["contributions"]]
    sent = [reply.contribution for reply in replies if isinstance(reply, ContributionReply)]
    answers = []
    for case in the_round["answers"]:
        made = helper_answer(
            ctx=CTX,
            helper=case["helper"],
            slots=tuple(case["slots"]),
            sharing=sharing(the_round),
            contributions=[each.header() for each in sent],
            roster=roster,
            now=500,
            bits=24,
            num_coordinates=5,
            min_contributions=2,
            noise_std=None,
            seal_key=X25519PrivateKey.from_private_bytes(secagg_reference.private("seal", case["helper"])),
            signing_key=Ed25519PrivateKey.from_private_bytes(secagg_reference.private("sign", case["helper"])),
            random_bytes=given_bytes(b""),
        )
        assert made.mask_sum.hex() == case["mask_sum"]
        assert encode(UnmaskReply(answer=made)).hex() == case["frame"]
        answers.append(made)
    opened = open_sum(
        ctx=CTX,
        sharing=sharing(the_round),
        contributions=sent,
        answers=answers,
        roster=roster,
        now=500,
        bits=24,
        num_coordinates=5,
    )
    assert opened.tolist() == the_round["sum"]


def test_the_complaint_and_its_frame() -> None:
    case = VECTORS["complaint"]
    key = Ed25519PrivateKey.from_private_bytes(secagg_reference.private("sign", case["helper"]))
    made = SealComplaint(complaint=complain(ctx=CTX, helper=case["helper"], client=case["client"], signing_key=key))
    assert encode(made).hex() == case["frame"]
    assert decode(bytes.fromhex(case["frame"])) == made


def test_the_roster() -> None:
    case = VECTORS["roster"]
    roster = open_roster(bytes.fromhex(case["signed"]), case["issuer"], 500)
    assert roster.digest == case["digest"]
    assert roster.epoch == 7
    for helper in ("north", "south", "east"):
        pinned = roster.member(helper, 500).signing_key
        assert roster.sealing_key(helper, pinned=pinned, now=500) == secagg_reference.sealing_public(helper)
    assert [member.name for member in roster.entries] == ["amber", "birch", "north", "south", "east"]


@pytest.mark.parametrize("case", VECTORS["roster"]["bad"], ids=lambda case: case["why"])
def test_bad_rosters(case: dict[str, Any]) -> None:
    with pytest.raises(getattr(errors, case["error"])):
        open_roster(bytes.fromhex(case["signed"]), VECTORS["roster"]["issuer"], case["now"])


@pytest.mark.parametrize("case", VECTORS["bad_frames"], ids=lambda case: case["why"])
def test_bad_frames(case: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        decode(bytes.fromhex(case["frame"]))
