"""docs/protocol.md suffices: a client written from it alone takes part in the product's rounds, and sums are exact."""

import ast
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import BadSeal, BadSignature, WrongContext
from shared.plan import CooccurrencePlan, TrainingPlan, make_plan, plan_to_json, steps
from shared.roster import Member, Roster, sign_roster
from shared.secagg import topology_p
from shared.secagg.context import context
from shared.secagg.pairwise_messages import Agreement, agree, verify
from shared.secagg.pairwise_opening import check_dealing, check_vector, deliveries_to, open_pairwise_sum
from shared.secagg.pairwise_terms import PairwiseMinima
from shared.secagg.topology_h import contribute, helper_answer, open_sum, verify_contribution
from shared.wire import ContributionRequest, decode, encode, inputs_digest
from shared.wire_pairwise import DealRequest, KeysRequest, MaskRequest, OpenRequest, SignRequest
from tests.golden import protocol_client
from tests.golden.protocol_client import HelpedTenant, PairwiseTenant
from tests.secagg_cast import HELPERS, NOW, certified, public_hex, sealing_key, signing_key

ISSUER = signing_key("issuer")
NAMES = ("amber", "birch", "cedar", "dune", "elm")
NUM_ITEMS = 6
# Weights whose clipped values are whole numbers of steps at every scale used here, so that rounding leaves no choice.
USERS = {
    "amber": [[(0, 1.0)], [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)]],
    "birch": [[(0, 0.5), (5, 0.25)]],
    "cedar": [[(2, 3.0)], [(2, 0.125)], []],
    "dune": [[(5, 1.0)]],
    "elm": [[(4, 0.5)]],
}


def member(name: str) -> Member:
    helper = name in HELPERS
    return Member(
        name=name,
        signing_key=public_hex(signing_key(name)),
        sealing=certified(name) if helper else None,
        roles=("helper",) if helper else ("tenant",),
        not_before=0,
        not_after=2 * NOW,
    )


ROSTER = Roster(entries=tuple(map(member, NAMES + HELPERS)), epoch=3, issued_at=0, expires_at=2 * NOW)
SIGNED = sign_roster(ROSTER, ISSUER)


def plan(**changes: Any) -> TrainingPlan:
    fields: dict[str, Any] = {
        "job_id": "by-the-document",
        "recipe": CooccurrencePlan(num_head_items=3, gamma=1.0, max_head_items_per_user=2),
        "catalogue_digest": "cd" * 32,
        "num_items": NUM_ITEMS,
        "popularity_share": 0.25,
        "min_tenants": 3,
        "min_users": 3,
        "max_users": 100,
        "bits": 64,
        "helpers": HELPERS,
    }
    return make_plan(epsilon=1.0, delta=1e-6, noise="none", **{**fields, **changes})


PAIRWISE = {
    "topology": "pairwise",
    "helpers": (),
    "num_parties": 5,
    "degree": 4,
    "threshold": 3,
    "min_tenants": 4,
    "colluding": 1,
}


def total(names: tuple[str, ...], scale: int) -> list[int]:
    found = np.zeros(NUM_ITEMS)
    for user in (user for name in names for user in USERS[name]):
        norm = max(1.0, sum(weight**2 for _, weight in user) ** 0.5)
        for item, weight in user:
            found[item] += weight / norm * scale
    assert np.array_equal(found, np.rint(found))
    return [int(value) for value in found]


def test_the_client_knows_nothing_of_the_product() -> None:
    imported = set()
    for node in ast.walk(ast.parse(Path(protocol_client.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported == {
        "hashlib",
        "hmac",
        "json",
        "math",
        "struct",
        "collections",
        "itertools",
        "typing",
        "blake3",
        "cryptography",
    }


@pytest.mark.parametrize("bits", [16, 24, 32, 64])
@pytest.mark.parametrize("noise", ["none", "helpers", "tenant"])
@pytest.mark.parametrize("max_users", [3, 100, 5_000])
def test_it_derives_steps_and_scales_as_the_product_does(bits: int, noise: Any, max_users: int) -> None:
    asked = plan(bits=24 if bits == 16 and noise != "none" else bits, max_users=max_users)
    made = make_plan(**{**_fields(asked), "noise": noise, "bits": asked.bits})
    told = protocol_client.steps(plan_to_json(made))
    assert [(each["kind"], each["size"], each["clip"], each["scale"]) for each in told] == [
        (each.kind, each.num_coordinates, each.clip, each.scale) for each in steps(made)
    ]


def _fields(of: TrainingPlan) -> dict[str, Any]:
    fields = {name: getattr(of, name) for name in TrainingPlan.__dataclass_fields__}
    del fields["mu"]
    return fields


def helped(name: str) -> HelpedTenant:
    return HelpedTenant(
        name=name,
        secret=signing_key(name).private_bytes_raw(),
        issuer=public_hex(ISSUER),
        pins={helper: public_hex(signing_key(helper)) for helper in HELPERS},
        users=USERS[name],
    )


@pytest.mark.parametrize("bits", [16, 24, 32, 64])
def test_it_takes_part_in_a_round_with_helpers_and_the_sum_is_exact(bits: int) -> None:
    asked = plan(bits=bits)
    first = steps(asked)[0]
    ctx = round_context(asked)
    where: dict[str, Any] = {"ctx": ctx, "sharing": asked.sharing, "roster": ROSTER, "now": NOW, "bits": bits}
    request = encode(ContributionRequest(plan_json=plan_to_json(asked), step=0, attempt=4, roster=SIGNED, inputs={}))
    sent = []
    for name in ("amber", "birch"):
        reply: Any = decode(helped(name).answer(request, now=NOW, random_bytes=os.urandom))
        verify_contribution(reply.contribution, num_coordinates=NUM_ITEMS, **where)
        sent.append(reply.contribution)
    sent.append(
        contribute(
            ctx=ctx,
            client="cedar",
            declared_users=3,
            values=np.array(total(("cedar",), first.scale)),
            bits=bits,
            sharing=asked.sharing,
            helper_keys={name: sealing_key(name).public_key().public_bytes_raw() for name in HELPERS},
            signing_key=signing_key("cedar"),
            random_bytes=os.urandom,
        )
    )
    answers = [
        helper_answer(
            helper=helper,
            slots=(helper,),
            contributions=[each.header() for each in sent],
            num_coordinates=NUM_ITEMS,
            min_contributions=3,
            noise_std=None,
            seal_key=sealing_key(helper),
            signing_key=signing_key(helper),
            random_bytes=os.urandom,
            **where,
        )
        for helper in HELPERS
    ]
    opened = open_sum(contributions=sent, answers=answers, num_coordinates=NUM_ITEMS, **where)
    assert opened.tolist() == total(("amber", "birch", "cedar"), first.scale)


def round_context(asked: TrainingPlan) -> bytes:
    return context(
        plan_digest=asked.digest,
        job_id=asked.job_id,
        step=0,
        attempt=4,
        num_coordinates=NUM_ITEMS,
        bits=asked.bits,
        inputs_digest=inputs_digest({}),
        roster_digest=ROSTER.digest,
    )


def asked_amber(asked: TrainingPlan) -> Any:
    request = ContributionRequest(plan_json=plan_to_json(asked), step=0, attempt=4, roster=SIGNED, inputs={})
    reply: Any = decode(helped("amber").answer(encode(request), now=NOW, random_bytes=os.urandom))
    return reply.contribution


def accepted(contribution: Any, asked: TrainingPlan) -> None:
    where: dict[str, Any] = {"sharing": asked.sharing, "roster": ROSTER, "now": NOW, "bits": 64, "num_coordinates": 6}
    verify_contribution(contribution, ctx=round_context(asked), **where)


def test_a_client_that_leaves_a_number_out_of_the_context_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = protocol_client.context
    accepted(asked_amber(plan()), plan())
    monkeypatch.setattr(protocol_client, "context", lambda asked, step, attempt, *rest: made(asked, step, 0, *rest))
    with pytest.raises(WrongContext):
        accepted(asked_amber(plan()), plan())


def test_a_client_that_signs_without_lengths_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = protocol_client.joined

    def glued(*fields: bytes) -> bytes:
        return b"".join(fields) if fields[0] == b"zhiyin/contribution/3" else joined(*fields)

    monkeypatch.setattr(protocol_client, "joined", glued)
    with pytest.raises(BadSignature):
        accepted(asked_amber(plan()), plan())


def test_a_client_that_binds_its_seals_to_less_is_found_out_by_the_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, joined = plan(), protocol_client.joined
    request = ContributionRequest(plan_json=plan_to_json(asked), step=0, attempt=4, roster=SIGNED, inputs={})

    def forgetful(*fields: bytes) -> bytes:
        return joined(*(fields[:-1] if fields[0] == b"zhiyin/seal-to/2" else fields))

    monkeypatch.setattr(protocol_client, "joined", forgetful)
    replies: list[Any] = [
        decode(helped(name).answer(encode(request), now=NOW, random_bytes=os.urandom)) for name in ("amber", "birch")
    ]
    with pytest.raises(BadSeal):
        helper_answer(
            ctx=round_context(asked),
            helper="north",
            slots=("north",),
            sharing=asked.sharing,
            contributions=[reply.contribution.header() for reply in replies],
            roster=ROSTER,
            now=NOW,
            bits=64,
            num_coordinates=NUM_ITEMS,
            min_contributions=2,
            noise_std=None,
            seal_key=sealing_key("north"),
            signing_key=signing_key("north"),
            random_bytes=os.urandom,
        )


class Mixed:
    """A pairwise round: two parties by the document, three by the product, the product's server side."""

    def __init__(self, asked: TrainingPlan) -> None:
        self.plan, self.step = asked, steps(asked)[0]
        self.base = round_context(asked)
        self.ctx = asked.terms.context(self.base)
        self.foreign = {
            name: PairwiseTenant(
                name=name, secret=signing_key(name).private_bytes_raw(), issuer=public_hex(ISSUER), users=USERS[name]
            )
            for name in ("amber", "dune")
        }
        self.own: dict[str, Any] = {}
        self.where: dict[str, Any] = {"roster": ROSTER, "now": NOW}

    def keys(self) -> Agreement:
        request = encode(
            KeysRequest(
                plan_json=plan_to_json(self.plan),
                step=0,
                attempt=4,
                roster=SIGNED,
                inputs_digest=inputs_digest({}),
                terms=self.plan.terms,
            )
        )
        bundles = {}
        minima = PairwiseMinima(corrupt=0.2, dropped=0.2, privacy_bits=40, recovery_bits=20, min_active=4, min_users=4)
        for name, tenant in self.foreign.items():
            reply: Any = decode(tenant.keys(request, now=NOW, random_bytes=os.urandom))
            bundles[name] = reply.bundle
        for name in ("birch", "cedar", "elm"):
            self.own[name], bundles[name] = topology_p.advertise(
                base=self.base,
                client=name,
                declared_users=3,
                terms=self.plan.terms,
                minima=minima,
                roster=ROSTER,
                signing_key=signing_key(name),
                random_bytes=os.urandom,
            )
        self.bundles = tuple(bundles[name] for name in NAMES)
        self.agreement = agree(self.bundles, ctx=self.ctx, terms=self.plan.terms, **self.where)
        return self.agreement

    def shares(self) -> None:
        frame = encode(DealRequest(ctx=self.ctx, bundles=self.bundles))
        found: dict[str, Any] = {name: decode(each.shares(frame)).dealing for name, each in self.foreign.items()}
        for name, state in self.own.items():
            self.own[name], found[name] = topology_p.deal(
                state, self.bundles, signing_key=signing_key(name), **self.where
            )
        for dealing in found.values():
            check_dealing(dealing, agreement=self.agreement, **self.where)
        self.dealings = [found[name] for name in NAMES]

    def vectors(self, silent: str) -> None:
        bits, self.sent = self.plan.bits, {}
        for name in NAMES:
            deliveries = deliveries_to(name, self.dealings)
            if name == silent:
                continue
            if name in self.foreign:
                asked = encode(MaskRequest(ctx=self.ctx, deliveries=deliveries, inputs={}))
                reply: Any = decode(self.foreign[name].vector(asked))
                self.sent[name] = reply.vector
            else:
                values = np.array(total((name,), self.step.scale))
                self.own[name], self.sent[name] = topology_p.mask_vector(
                    self.own[name], deliveries, values, bits=bits, signing_key=signing_key(name)
                )
            check_vector(self.sent[name], agreement=self.agreement, bits=bits, num_coordinates=NUM_ITEMS, **self.where)
        self.active = tuple(self.sent)

    def open(self) -> list[int]:
        signatures, unmaskings = {}, []
        for name in self.active:
            if name in self.foreign:
                asked: Any = decode(self.foreign[name].signature(encode(SignRequest(ctx=self.ctx, active=self.active))))
                signatures[name] = asked.signature
            else:
                self.own[name], signatures[name] = topology_p.sign_active(
                    self.own[name], self.active, signing_key=signing_key(name)
                )
        for name in self.active:
            others = tuple(each for each in signatures.values() if each.client != name)
            if name in self.foreign:
                frame = encode(OpenRequest(ctx=self.ctx, signatures=others))
                reply: Any = decode(self.foreign[name].opening(frame, colluding=1))
                unmaskings.append(reply.unmasking)
            else:
                _, unmasking = topology_p.unmask(self.own[name], others, signing_key=signing_key(name), **self.where)
                unmaskings.append(unmasking)
        for unmasking in unmaskings:
            verify(unmasking, agreement=self.agreement, **self.where)
        opened = open_pairwise_sum(
            agreement=self.agreement,
            dealings=self.dealings,
            vectors=list(self.sent.values()),
            unmaskings=unmaskings,
            bits=self.plan.bits,
            num_coordinates=NUM_ITEMS,
            **self.where,
        )
        assert opened.liars == ()
        return [int(value) for value in opened.total]


@pytest.mark.parametrize("silent", ["", "dune", "birch"])
@pytest.mark.parametrize("bits", [24, 64])
def test_it_takes_part_in_a_pairwise_round_whoever_drops_out(silent: str, bits: int) -> None:
    mixed = Mixed(plan(bits=bits, **PAIRWISE))
    mixed.keys()
    mixed.shares()
    mixed.vectors(silent)
    assert mixed.open() == total(mixed.active, mixed.step.scale)
    assert len(mixed.active) == 5 - bool(silent)
