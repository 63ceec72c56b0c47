"""Requests and replies whose length grows with the number of parties: what does not fit is told before it costs."""

from dataclasses import replace
from pathlib import Path

import pytest

import shared.frame
from server.job import _REPLY_BYTES, _SHARES_BYTES
from server.request_sizes import require_requests_fit
from shared.errors import BadSetting, MalformedMessage
from shared.plan import TrainingPlan
from shared.roster import Member, Roster
from shared.secagg.mask_sharing import MAX_SEALS, MaskSharing
from shared.secagg.pairwise_messages import DIGEST_BYTES, SEALED_BYTES, Dealing, SealedShares, Unmasking
from shared.secagg.sealing import SEAL_BYTES
from shared.secagg.shamir import SHARE_BYTES
from shared.secagg.topology_h import Contribution, Seal
from shared.wire import MAX_REFUSAL_CHARACTERS, ContributionReply, Refusal, encode
from shared.wire_pairwise import DealReply, OpenReply
from tests.federation_cast import Cast, make_cast
from tests.pairwise_cast import NOW
from tests.pairwise_federation_cast import threes

HELPERS = tuple(f"helper-{letter}" for letter in "abcdef")
LONGEST = "a" * 64


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Cast:
    return make_cast(tmp_path_factory.mktemp("cast"), noise="helpers")


def tenants(number: int) -> Roster:
    member = Member(name="x", signing_key="ab" * 32, sealing=None, roles=("tenant",), not_before=0, not_after=NOW)
    entries = tuple(replace(member, name=f"tenant-{place:04d}", signing_key=f"{place:064x}") for place in range(number))
    return Roster(entries=entries, epoch=1, issued_at=0, expires_at=NOW)


def with_spare_helpers(plan: TrainingPlan, **changes: object) -> TrainingPlan:
    return replace(plan, helpers=HELPERS, spare_helpers=2, **changes)  # type: ignore[arg-type]


def test_with_many_seals_the_contributions_of_few_hundred_tenants_fill_a_request(cast: Cast) -> None:
    plan = with_spare_helpers(cast.plan)
    require_requests_fit(plan, tenants(250), b"")
    with pytest.raises(BadSetting, match=r"a list of 400 tenants does not fit a message .*header.*spare_helpers"):
        require_requests_fit(plan, tenants(400), b"")


def test_cohorts_divide_what_has_to_fit(cast: Cast) -> None:
    plan = with_spare_helpers(cast.plan, cohorts=3, max_spread=2.0)
    require_requests_fit(plan, tenants(750), b"")
    with pytest.raises(BadSetting, match="a list of 400 tenants"):
        require_requests_fit(plan, tenants(1_198), b"")


def test_without_spare_helpers_four_thousand_fit_and_no_more(cast: Cast) -> None:
    require_requests_fit(cast.plan, tenants(4_000), b"")
    with pytest.raises(BadSetting, match="a list of 4001 tenants does not fit"):
        require_requests_fit(cast.plan, tenants(4_001), b"")


def test_of_a_pairwise_round_the_invited_parties_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = threes(tmp_path).plan
    monkeypatch.setattr(shared.frame, "MAX_HEADER_BYTES", 3_000)
    require_requests_fit(plan, tenants(400), b"")
    monkeypatch.setattr(shared.frame, "MAX_HEADER_BYTES", 1_500)
    with pytest.raises(BadSetting, match=r"a list of 3 tenants does not fit .*num_parties"):
        require_requests_fit(plan, tenants(400), b"")


def test_a_job_whose_lists_are_too_long_ends_before_anybody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In place of hundreds of tenants: room for a question to a client, but not for the contributions of three.
    cast = make_cast(tmp_path, noise="helpers")
    monkeypatch.setattr(shared.frame, "MAX_HEADER_BYTES", 1_900)
    for _ in range(2):
        with pytest.raises((BadSetting, MalformedMessage)) as told:
            cast.run()
        for name in cast.homes:
            assert [each for each in cast.home(name).ledger.entries() if each.kind == "release"] == []
        assert "a list of 3 tenants does not fit a message" in str(told.value)


def test_no_honest_reply_is_longer_than_the_server_waits_for() -> None:
    most = MaskSharing(helpers=tuple(f"{place:064d}" for place in range(6)), spare=2)
    slots = [LONGEST] * MAX_SEALS
    assert len(most.places) <= MAX_SEALS
    seals = tuple(Seal(slot=slot, helper=LONGEST, sealed=bytes(SEAL_BYTES)) for slot in slots)
    widest = tuple(replace(seal, slot="a" * 200) for seal in seals)
    contribution = Contribution(
        client=LONGEST, ctx=bytes(32), declared_users=2**53 - 1, masked=b"", seals=widest, signature=bytes(64)
    )
    assert len(encode(ContributionReply(contribution=contribution))) < _REPLY_BYTES * 0.8
    refusal = Refusal(party=LONGEST, error="WrongContext", message="\N{MUSICAL SYMBOL G CLEF}" * MAX_REFUSAL_CHARACTERS)
    assert len(encode(refusal)) < _REPLY_BYTES * 0.8

    sealed = SealedShares(
        receiver=LONGEST,
        sealed=bytes(SEALED_BYTES),
        self_digest=bytes(DIGEST_BYTES),
        key_digest=bytes(DIGEST_BYTES),
    )
    names = [f"{place:064d}" for place in range(1_000)]
    place = {"client": LONGEST, "ctx": bytes(32), "root": bytes(32), "signature": bytes(64)}
    dealing = Dealing(shares=tuple(replace(sealed, receiver=name) for name in names), **place)  # type: ignore[arg-type]
    shares = tuple((name, bytes(SHARE_BYTES)) for name in names)
    unmasking = Unmasking(active=bytes(32), self_shares=shares, key_shares=(), **place)  # type: ignore[arg-type]
    for reply in (DealReply(dealing=dealing), OpenReply(unmasking=unmasking)):
        assert len(encode(reply)) < (_REPLY_BYTES + len(names) * _SHARES_BYTES) * 0.8
