"""What a client says to requests that it must not fulfil."""

import os
import shutil
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.answer import answer
from client.durable_files import write_file
from client.home import POLICY_FILE
from client.policy_file import render_policy
from shared.plan import plan_to_json
from shared.roster import open_roster, sign_roster
from shared.sealing_certificate import certify_sealing_key
from shared.secagg.complaint import verify_complaint
from shared.secagg.context import context
from shared.secagg.topology_h import cohort_digest, contribute, verify_answer, verify_contribution
from shared.wire import (
    ContributionReply,
    ContributionRequest,
    Refusal,
    SealComplaint,
    UnmaskReply,
    UnmaskRequest,
    decode,
    encode,
    inputs_digest,
)
from tests.federation_cast import NUM_ITEMS, make_cast

NOW = 1_800_000_000


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_cast(tmp_path_factory.mktemp("cast"), noise="helpers")


@pytest.fixture
def cast(original, tmp_path):
    shutil.copytree(original.folder, tmp_path / "cast")
    fields = {**vars(original), "folder": tmp_path / "cast"}
    return type(original)(**{**fields, "homes": {name: tmp_path / "cast" / "homes" / name for name in original.homes}})


def roster_of(cast):
    return (cast.folder / "server" / "roster.bin").read_bytes()


def request_of(cast, **changes):
    fields = {
        "plan_json": plan_to_json(cast.plan), "step": 0, "attempt": 0, "roster": roster_of(cast), "inputs": {},
    }  # fmt: skip
    return ContributionRequest(**{**fields, **changes})


def ask(cast, name, request):
    frame = request if isinstance(request, bytes) else encode(request)
    return decode(answer(cast.home(name), frame, now=NOW, random_bytes=os.urandom))


def error_of(reply):
    assert isinstance(reply, Refusal), f"it was answered: {reply}"
    return reply.error


def headers_of(cast, names=("anna", "bert", "carl")):
    return tuple(ask(cast, name, request_of(cast)).contribution.header() for name in names)


def unmask_of(cast, headers, helper="bert", **changes):
    fields = {
        "plan_json": plan_to_json(cast.plan), "step": 0, "attempt": 0, "roster": roster_of(cast),
        "inputs_digest": inputs_digest({}), "slots": (helper,), "headers": headers,
    }  # fmt: skip
    return UnmaskRequest(**{**fields, **changes})


def context_of(cast, roster):
    return context(
        plan_digest=cast.plan.digest, job_id="job-1", step=0, attempt=0, num_coordinates=NUM_ITEMS, bits=64,
        inputs_digest=inputs_digest({}), roster_digest=roster.digest,
    )  # fmt: skip


def open_own(cast):
    return open_roster(roster_of(cast), cast.home("anna").policy.issuer_public_key, NOW)


def test_an_honest_request_is_answered_and_charged_once(cast):
    reply = ask(cast, "anna", request_of(cast))
    assert isinstance(reply, ContributionReply)
    roster = open_own(cast)
    verify_contribution(
        reply.contribution, ctx=context_of(cast, roster), sharing=cast.plan.sharing, roster=roster, now=NOW, bits=64,
        num_coordinates=NUM_ITEMS,
    )  # fmt: skip
    assert [(entry.step, entry.attempt) for entry in cast.home("anna").ledger.entries()] == [(0, 0)]


def test_the_same_request_twice_is_refused_even_after_a_restart(cast):
    ask(cast, "anna", request_of(cast))
    again = ask(cast, "anna", request_of(cast))
    assert error_of(again) == "AlreadyAnswered"
    assert len(cast.home("anna").ledger.entries()) == 1


def test_a_helper_answers_one_context_once_even_after_a_restart(cast):
    headers = headers_of(cast)
    assert isinstance(ask(cast, "bert", unmask_of(cast, headers)), UnmaskReply)
    for cohort in (headers, headers[:2]):
        again = ask(cast, "bert", unmask_of(cast, cohort))
        assert error_of(again) == "AlreadyAnswered"


def test_a_helpers_answer_verifies_and_carries_its_own_noise(cast):
    headers, roster = headers_of(cast), open_own(cast)
    found = ask(cast, "anna", unmask_of(cast, headers, "anna")).answer
    verify_answer(
        found, ctx=context_of(cast, roster), slots=("anna",), cohort=cohort_digest(headers), roster=roster, now=NOW,
        bits=64, num_coordinates=NUM_ITEMS,
    )  # fmt: skip


def test_a_cohort_below_the_local_minimum_is_not_unmasked(cast):
    headers = headers_of(cast)
    assert error_of(ask(cast, "bert", unmask_of(cast, headers[:1]))) == "TooFewClients"
    assert not any(entry.kind == "answer" for entry in cast.home("bert").ledger.entries())


def test_declared_users_below_the_local_minimum_are_not_unmasked(cast):
    headers = headers_of(cast)
    forged = tuple(type(header)(**{**vars(header), "declared_users": 10_000}) for header in headers)
    assert error_of(ask(cast, "bert", unmask_of(cast, forged))) == "WrongContext"
    forged = tuple(type(header)(**{**vars(header), "declared_users": 300}) for header in headers)
    assert error_of(ask(cast, "bert", unmask_of(cast, forged))) == "BadSignature"
    forged = tuple(type(header)(**{**vars(header), "declared_users": 1}) for header in headers)
    assert error_of(ask(cast, "bert", unmask_of(cast, forged))) == "TooFewClients"


def test_who_is_no_helper_unmasks_nothing(cast):
    assert error_of(ask(cast, "carl", unmask_of(cast, headers_of(cast, ("anna", "bert"))))) == "UnknownKey"


def test_headers_of_other_inputs_are_not_unmasked(cast):
    other = inputs_digest({"head": np.arange(3, dtype=np.int32)})
    assert error_of(ask(cast, "bert", unmask_of(cast, headers_of(cast), inputs_digest=other))) == "BadSignature"


def plan_json(cast, **changes):
    return {**plan_to_json(cast.plan), **changes}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"noise": "none"}, "PolicyViolation"),
        ({"noise": "tenant"}, "PolicyViolation"),
        ({"mu": 50.0}, "PolicyViolation"),
        ({"min_users": 2}, "PolicyViolation"),
        ({"catalogue_digest": "0" * 64}, "PolicyViolation"),
        ({"helpers": ["anna", "carl"]}, "PolicyViolation"),
        ({"helpers": ["anna"]}, "MalformedMessage"),
        ({"bits": 7}, "MalformedMessage"),
        ({"mu": float(2**60)}, "PolicyViolation"),
    ],
)
def test_a_plan_outside_the_policy_is_refused_and_costs_nothing(cast, changes, error):
    reply = ask(cast, "anna", request_of(cast, plan_json=plan_json(cast, **changes)))
    assert isinstance(reply, Refusal)
    assert (reply.party, reply.error) == ("anna", error)
    assert cast.home("anna").ledger.entries() == ()


def test_a_roster_of_another_issuer_is_refused(cast):
    roster = open_own(cast)
    forged = sign_roster(roster, Ed25519PrivateKey.generate())
    assert error_of(ask(cast, "anna", request_of(cast, roster=forged))) == "BadSignature"


def test_a_roster_that_lists_another_key_for_this_party_is_refused(cast, original):
    # Two homes exchanged by mistake: carl's keys under anna's name.
    shutil.rmtree(cast.homes["anna"] / "keys")
    shutil.copytree(cast.homes["carl"] / "keys", cast.homes["anna"] / "keys")
    reply = ask(cast, "anna", request_of(cast))
    assert (error_of(reply), "another signing key" in reply.message) == ("UnknownKey", True)


@pytest.mark.parametrize("step", [2, 99])
def test_a_step_that_the_plan_does_not_have_is_refused(cast, step):
    assert error_of(ask(cast, "anna", request_of(cast, step=step))) == "WrongContext"


def test_inputs_that_the_step_does_not_take_are_refused_before_anything_is_charged(cast):
    head = {"head": np.arange(8, dtype=np.int32)}
    assert error_of(ask(cast, "anna", request_of(cast, inputs=head))) == "MalformedMessage"
    assert cast.home("anna").ledger.entries() == ()


@pytest.mark.parametrize("frame", [b"", b"\x00" * 64, b"x" * 1000])
def test_nonsense_is_refused(cast, frame):
    assert error_of(ask(cast, "anna", frame)) == "MalformedMessage"


def test_a_reply_sent_to_a_client_is_refused(cast):
    assert error_of(ask(cast, "anna", Refusal(party="bert", error="X", message="-"))) == "MalformedMessage"


def test_more_users_than_declared_are_refused_without_a_word_about_them(cast):
    home = cast.home("anna")
    policy = type(home.policy)(**{**vars(home.policy), "declared_users": 19})
    write_file(home.folder / POLICY_FILE, render_policy(policy).encode())
    reply = ask(cast, "anna", request_of(cast))
    assert reply == Refusal(
        party="anna", error="ZhiyinError", message="the client could not answer; its own log says why"
    )


def test_a_sum_that_went_out_of_range_on_this_machine_is_not_sent_and_the_log_says_why(cast, monkeypatch, caplog):
    monkeypatch.setattr("client.answer.tenant_values", lambda *_, **__: np.full(NUM_ITEMS, 2**50, dtype=np.int64))
    reply = ask(cast, "anna", request_of(cast))
    assert reply == Refusal(
        party="anna", error="ZhiyinError", message="the client could not answer; its own log says why"
    )
    assert "its 20 declared users of clip 1 reach 20" in caplog.text


def test_every_answer_is_masked_anew(cast, tmp_path):
    shutil.copytree(cast.homes["anna"], tmp_path / "copy")
    first = ask(cast, "anna", request_of(cast)).contribution
    twin = type(cast)(**{**vars(cast), "homes": {"anna": tmp_path / "copy"}})
    second = ask(twin, "anna", request_of(cast)).contribution
    assert first.masked != second.masked


def test_every_answer_rounds_with_draws_of_its_own(cast, tmp_path, monkeypatch):
    # What two releases would share, their difference would show: see `client.contribution.rounded_users`.
    seeds = []

    def noting(plan, step, inputs, history, *, secret_seed):
        seeds.append(secret_seed)
        return np.zeros(NUM_ITEMS, dtype=np.int64)

    monkeypatch.setattr("client.answer.tenant_values", noting)
    shutil.copytree(cast.homes["anna"], tmp_path / "copy")
    twin = type(cast)(**{**vars(cast), "homes": {"anna": tmp_path / "copy"}})
    for each in (cast, twin):
        assert isinstance(ask(each, "anna", request_of(each)), ContributionReply)
    assert [len(seed) for seed in seeds] == [32, 32]
    assert seeds[0] != seeds[1]


# --- rosters: who is on the list, and until when ---

ISSUER = Ed25519PrivateKey.generate()
FOREIGN = certify_sealing_key("bert", "5" * 64, not_before=0, not_after=2**40, signing_key=ISSUER)


def set_policy(cast, name, **changes):
    home = cast.home(name)
    write_file(home.folder / POLICY_FILE, render_policy(replace(home.policy, **changes)).encode())


def roster_with(cast, members=None, **changes):
    """The cast's roster with members changed (None: not listed), signed by an issuer whom everybody now trusts."""
    for name in cast.homes:
        set_policy(cast, name, issuer_public_key=ISSUER.public_key().public_bytes_raw().hex())
    known = open_roster(roster_of(cast), original_issuer(cast), NOW)
    changed = {member.name: member for member in known.entries} | {
        name: None if fields is None else replace(known.member(name, NOW), **fields)
        for name, fields in (members or {}).items()
    }
    listed = tuple(member for member in changed.values() if member is not None)
    return replace(known, entries=listed, **changes)


def original_issuer(cast):
    return tomllib.loads(cast.job.read_text())["issuer_public_key"]


@pytest.mark.parametrize(
    ("members", "changes", "error", "message"),
    [
        ({}, {"expires_at": NOW}, "ExpiredKey", f"the roster is valid from 0 to {NOW}, now is {NOW}"),
        ({}, {"issued_at": NOW + 1}, "ExpiredKey", f"the roster is valid from {NOW + 1} to {2**40}, now is {NOW}"),
        (
            {"anna": {"not_after": NOW - 1}}, {}, "ExpiredKey",
            f"the keys of anna are valid from 0 to {NOW - 1}, now is {NOW}",
        ),
        (
            {"bert": {"not_before": NOW + 1}}, {}, "ExpiredKey",
            f"the keys of bert are valid from {NOW + 1} to {2**40}, now is {NOW}",
        ),
        ({"anna": None}, {}, "UnknownKey", "'anna' is not on the roster"),
        ({"anna": {"roles": ("helper",)}}, {}, "UnknownKey", "anna is on the roster, but not as a tenant"),
        (
            {"anna": {"signing_key": "5" * 64}}, {}, "UnknownKey",
            "the roster lists another signing key for anna than the one in its home",
        ),
        (
            {"bert": {"signing_key": "5" * 64}}, {}, "PolicyViolation",
            "plan job-1: helpers is bert with another signing key, this client's policy allows bert with the "
            "pinned key",
        ),
        (
            {"bert": {"sealing": FOREIGN}}, {}, "BadSignature",
            "the sealing key listed for bert is not certified by bert's signing key",
        ),
    ],
)  # fmt: skip
def test_a_roster_that_does_not_vouch_for_the_parties_now_is_refused_and_costs_nothing(
    cast, members, changes, error, message
):
    sound = sign_roster(replace(roster_with(cast), epoch=2), ISSUER)
    refused = ask(cast, "anna", request_of(cast, roster=sign_roster(roster_with(cast, members, **changes), ISSUER)))
    assert refused == Refusal(party="anna", error=error, message=message)
    assert cast.home("anna").ledger.entries() == ()
    # The list is all that was wrong: with a sound one the same request is answered.
    assert isinstance(ask(cast, "anna", request_of(cast, roster=sound)), ContributionReply)


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (
            "", "UnknownKey",
            "the roster issuer's public key must be 64 hex digits; ask whoever runs the federation for it",
        ),
        ("0" * 63 + "1", "BadSignature", "the roster is not signed by the issuer that this party trusts"),
    ],
)  # fmt: skip
def test_a_home_that_knows_no_issuer_or_another_one_refuses_and_pays_nothing(cast, key, error, message):
    set_policy(cast, "anna", issuer_public_key=key)
    assert ask(cast, "anna", request_of(cast)) == Refusal(party="anna", error=error, message=message)
    assert cast.home("anna").ledger.entries() == ()


def headers_under(cast, roster, spoilt=None):
    """Everybody's header in the context of `roster`, signed whether or not it lists them."""
    made = []
    sealing = {each: bytes.fromhex(cast.home(each).vault.sealing_public) for each in ("anna", "bert")}
    for name in ("anna", "bert", "carl"):
        pins = dict(sealing)
        if name == spoilt:
            pins["bert"] = pins["anna"][::-1]
        contribution = contribute(
            ctx=context_of(cast, roster), client=name, declared_users=20,
            values=np.zeros(NUM_ITEMS, dtype=np.int64), bits=64, sharing=cast.plan.sharing, helper_keys=pins,
            signing_key=cast.home(name).vault.signing_key, random_bytes=os.urandom,
        )  # fmt: skip
        made.append(contribution.header())
    return tuple(made)


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ({"carl": None}, "UnknownKey", "'carl' is not on the roster"),
        ({"carl": {"signing_key": "5" * 64}}, "BadSignature", "the signature of carl does not verify"),
        (
            {"carl": {"not_after": NOW - 1}}, "ExpiredKey",
            f"the keys of carl are valid from 0 to {NOW - 1}, now is {NOW}",
        ),
        (
            {"bert": {"not_after": NOW - 1}}, "ExpiredKey",
            f"the keys of bert are valid from 0 to {NOW - 1}, now is {NOW}",
        ),
    ],
)  # fmt: skip
def test_a_helper_sums_no_contribution_of_a_tenant_whose_key_is_unknown_or_expired(cast, members, error, message):
    roster = roster_with(cast, members)
    request = unmask_of(cast, headers_under(cast, roster), roster=sign_roster(roster, ISSUER))
    assert ask(cast, "bert", request) == Refusal(party="bert", error=error, message=message)
    assert cast.home("bert").ledger.entries() == ()
    sound = replace(roster_with(cast), epoch=2)
    request = unmask_of(cast, headers_under(cast, sound), roster=sign_roster(sound, ISSUER))
    assert isinstance(ask(cast, "bert", request), UnmaskReply)


def test_a_helper_complains_of_the_client_whose_seal_does_not_open_and_can_still_answer_for_the_others(cast):
    roster = roster_with(cast)
    signed = sign_roster(roster, ISSUER)
    headers = headers_under(cast, roster, spoilt="carl")
    said = ask(cast, "bert", unmask_of(cast, headers, roster=signed))
    assert isinstance(said, SealComplaint)
    assert (said.complaint.helper, said.complaint.client) == ("bert", "carl")
    verify_complaint(said.complaint, ctx=context_of(cast, roster), roster=roster, now=NOW)
    assert cast.home("bert").ledger.entries() == ()
    assert isinstance(ask(cast, "bert", unmask_of(cast, headers[:2], roster=signed)), UnmaskReply)
