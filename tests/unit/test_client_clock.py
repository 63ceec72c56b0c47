"""A clock that is set back makes nothing valid again that had expired by what the home has recorded."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.answer import answer
from client.durable_files import write_file
from client.home import POLICY_FILE
from client.inspection import diagnose
from client.ledger import CLOCK_SLACK_SECONDS, Ledger
from client.policy_file import render_policy
from client.rosters import learn_roster
from shared.errors import ClockSetBack
from shared.plan import plan_to_json
from shared.roster import Roster, open_roster, sign_roster
from shared.wire import ContributionReply, ContributionRequest, Message, Refusal, decode, encode
from tests.federation_cast import Cast, make_cast

NOW, DAY = 1_800_000_000, 86_400


class Federation:
    """A cast under an issuer of this test's own, and one tenant of it to ask."""

    def __init__(self, folder: Path) -> None:
        self.cast: Cast = make_cast(folder, noise="helpers")
        home, self.issuer = self.cast.home("anna"), Ed25519PrivateKey.generate()
        signed = (folder / "server" / "roster.bin").read_bytes()
        self.roster = open_roster(signed, home.policy.issuer_public_key, NOW)
        policy = replace(home.policy, issuer_public_key=self.issuer.public_key().public_bytes_raw().hex())
        write_file(home.folder / POLICY_FILE, render_policy(policy).encode())

    def list_of(self, epoch: int, expires_at: int) -> bytes:
        listed = Roster(
            entries=self.roster.entries, epoch=epoch, issued_at=self.roster.issued_at, expires_at=expires_at
        )
        return sign_roster(listed, self.issuer)

    def ask(self, signed: bytes, attempt: int, now: int) -> Message:
        plan = plan_to_json(self.cast.plan)
        request = ContributionRequest(plan_json=plan, step=0, attempt=attempt, roster=signed, inputs={})
        return decode(answer(self.cast.home("anna"), encode(request), now=now, random_bytes=os.urandom))


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


def refused(reply: Message, error: str) -> str:
    assert isinstance(reply, Refusal), f"it was answered: {type(reply).__name__}"
    assert reply.error == error
    return reply.message


def test_a_clock_set_back_revives_no_list_that_had_expired(federation: Federation) -> None:
    short, long = federation.list_of(1, NOW + DAY), federation.list_of(2, NOW + 9 * DAY)
    assert isinstance(federation.ask(short, 0, NOW), ContributionReply)
    assert isinstance(federation.ask(long, 1, NOW + 3 * DAY), ContributionReply)
    refused(federation.ask(long, 2, NOW + 9 * DAY), "ExpiredKey")
    said = refused(federation.ask(long, 3, NOW + DAY), "ClockSetBack")
    assert f"{2 * DAY} s behind" in said
    assert "its home recorded something at 2027-01-18 08:00:00 UTC" in said
    assert "Set the clock right" in said
    assert [entry.attempt for entry in federation.cast.home("anna").ledger.entries()] == [0, 1]


def test_the_time_at_which_a_list_was_accepted_is_remembered(federation: Federation) -> None:
    # Nothing was answered since then.
    late = federation.list_of(1, NOW + DAY)
    learn_roster(federation.cast.home("anna"), late, NOW)
    refused(federation.ask(late, 0, NOW + DAY), "ExpiredKey")
    refused(federation.ask(late, 0, NOW - CLOCK_SLACK_SECONDS - 1), "ClockSetBack")
    assert isinstance(federation.ask(late, 0, NOW - CLOCK_SLACK_SECONDS), ContributionReply)


def test_steps_within_the_slack_do_not_add_up(federation: Federation) -> None:
    signed = federation.list_of(1, NOW + DAY)
    assert isinstance(federation.ask(signed, 0, NOW), ContributionReply)
    assert isinstance(federation.ask(signed, 1, NOW - CLOCK_SLACK_SECONDS), ContributionReply)
    refused(federation.ask(signed, 2, NOW - CLOCK_SLACK_SECONDS - 1), "ClockSetBack")
    assert isinstance(federation.ask(signed, 2, NOW), ContributionReply)


def test_a_list_that_came_by_hand_is_held_against_the_clock_too(federation: Federation) -> None:
    home = federation.cast.home("anna")
    learn_roster(home, federation.list_of(1, NOW + DAY), NOW)
    with pytest.raises(ClockSetBack, match="7200 s behind"):
        learn_roster(home, federation.list_of(2, NOW + DAY), NOW - 7_200)
    assert [entry.recorded_at for entry in home.ledger.rosters()] == [NOW]


def test_what_is_recorded_carries_the_time_of_the_message(federation: Federation) -> None:
    federation.ask(federation.list_of(1, NOW + DAY), 0, NOW)
    ledger = federation.cast.home("anna").ledger
    assert {entry.recorded_at for entry in (*ledger.entries(), *ledger.rosters())} == {NOW}


def test_the_doctor_says_that_the_clock_is_behind(federation: Federation) -> None:
    home = federation.cast.home("anna")
    learn_roster(home, federation.list_of(1, NOW + DAY), NOW)
    for now, severity in ((NOW, "ok"), (NOW - DAY, "error")):
        (found,) = (each for each in diagnose(home.folder, now=now) if each.check == "clock")
        assert found.severity == severity
    assert "86400 s behind" in found.message


def test_an_empty_ledger_takes_any_clock(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "ledger.db").at(5)
    ledger.answer_once([bytes(32)])
    assert [entry.recorded_at for entry in ledger.entries()] == [5]
