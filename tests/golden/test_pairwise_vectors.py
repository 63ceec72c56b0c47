"""Topology P byte for byte, against a round that a second implementation wrote."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared import errors
from shared.roster import Member, Roster
from shared.secagg import topology_p
from shared.secagg.context import context
from shared.secagg.graph import build_graph
from shared.secagg.pairwise_messages import agree
from shared.secagg.pairwise_opening import deliveries_to, open_pairwise_sum
from shared.secagg.pairwise_terms import PairwiseMinima, PairwiseTerms
from shared.secagg.shamir import combine, split
from tests.golden import secagg_reference
from tests.golden.test_secagg_vectors import given_bytes

VECTORS = json.loads((Path(__file__).parent / "secagg_vectors.json").read_text())
NOW = 500
TRUSTING = PairwiseMinima(corrupt=0.0, dropped=0.0, privacy_bits=40, recovery_bits=20, min_active=2, min_users=1)


def signing_key(client: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(secagg_reference.private("sign", client))


ROSTER = Roster(
    entries=tuple(
        Member(
            name=client,
            signing_key=signing_key(client).public_key().public_bytes_raw().hex(),
            sealing_key="",
            roles=("tenant",),
            not_before=0,
            not_after=1000,
        )
        for client in secagg_reference.TRIO
    ),
    issued_at=0,
    expires_at=1000,
)


def test_the_shares() -> None:
    case = VECTORS["shamir"]
    secret, points = bytes.fromhex(case["secret"]), case["points"]
    made = split(secret, threshold=4, points=points, random_bytes=given_bytes(bytes.fromhex(case["random"])))
    assert [share.hex() for share in made] == case["shares"]
    assert combine(dict(zip(points, made, strict=True)), threshold=4) == secret
    wrong = {**dict(zip(points, made, strict=True)), points[0]: bytes.fromhex(case["another"]["share"])}
    assert combine(wrong, threshold=4).hex() == case["another"]["opens_to"] != case["secret"]


@pytest.mark.parametrize("case", VECTORS["shamir"]["bad"], ids=lambda case: case["why"])
def test_bad_shares(case: dict[str, Any]) -> None:
    with pytest.raises(getattr(errors, case["error"])):
        combine({1: bytes.fromhex(case["share"])}, threshold=1)


def test_the_graph() -> None:
    case = VECTORS["graph"]
    graph = build_graph(bytes.fromhex(case["root"]), tuple(case["members"]), case["degree"])
    assert list(graph.order) == case["order"]
    assert {name: list(graph.neighbours(name)) for name in graph.order} == case["neighbours"]


def test_the_round() -> None:
    case = VECTORS["pairwise"]
    terms = PairwiseTerms(**case["numbers"])
    fields = VECTORS["context"]["fields"]
    base = context(**{**fields, "inputs_digest": bytes.fromhex(fields["inputs_digest"])})
    assert terms.context(base).hex() == case["ctx"]
    states: dict[str, Any] = {}
    bundles = []
    for party in case["parties"]:
        states[party["client"]], bundle = topology_p.advertise(
            base=base,
            client=party["client"],
            declared_users=40,
            terms=terms,
            minima=TRUSTING,
            roster=ROSTER,
            signing_key=signing_key(party["client"]),
            random_bytes=given_bytes(bytes.fromhex(party["random"])),
        )
        assert bundle.signature.hex() == party["bundle_signature"]
        bundles.append(bundle)
    agreement = agree(bundles, ctx=terms.context(base), terms=terms, roster=ROSTER, now=NOW)
    assert agreement.root.hex() == case["root"]
    heard: dict[str, list[Any]] = {"dealing": [], "vector": [], "active": [], "unmasking": []}

    def step(kind: str, party: dict[str, Any], result: tuple[Any, Any]) -> Any:
        states[party["client"]], message = result
        assert message.signature.hex() == party[f"{kind}_signature"]
        heard[kind].append(message)
        return message

    for party in case["parties"]:
        client, key = party["client"], signing_key(party["client"])
        made = topology_p.deal(states[client], bundles, roster=ROSTER, now=NOW, signing_key=key)
        dealing = step("dealing", party, made)
        assert [each.sealed.hex() for each in dealing.shares] == party["sealed"]
    for party in case["parties"]:
        client, values = party["client"], np.array(party["values"], dtype=np.int64)
        given = deliveries_to(client, heard["dealing"])
        masked = topology_p.mask_vector(states[client], given, values, bits=24, signing_key=signing_key(client))
        assert step("vector", party, masked).masked.hex() == party["masked"]
    for party in case["parties"]:
        client = party["client"]
        step("active", party, topology_p.sign_active(
            states[client], secagg_reference.TRIO, signing_key=signing_key(client)))  # fmt: skip
    for party in case["parties"]:
        client = party["client"]
        others = [each for each in heard["active"] if each.client != client]
        step("unmasking", party, topology_p.unmask(
            states[client], others, roster=ROSTER, now=NOW, signing_key=signing_key(client)))  # fmt: skip
    opened = open_pairwise_sum(
        agreement=agreement,
        dealings=heard["dealing"],
        vectors=heard["vector"],
        unmaskings=heard["unmasking"],
        roster=ROSTER,
        now=NOW,
        bits=24,
        num_coordinates=5,
    )
    assert opened.total.tolist() == case["sum"]
