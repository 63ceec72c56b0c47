"""Procedure (e): the issuer's key is lost or stolen. Real homes, the issuer's commands, real answers."""

import os
import shutil
import time
from pathlib import Path

import pytest

from client.answer import answer
from client.cli import client_app
from client.home import ClientHome
from client.issuing.cli import issuer_app
from shared.errors import ZhiyinError
from shared.plan import plan_to_json
from shared.wire import ContributionReply, ContributionRequest, Refusal, decode, encode
from tests.identity_cast import ROLES, Federation, command, errors_of, make_federation, works

DAY = 24 * 3_600


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return make_federation(tmp_path_factory.mktemp("federation"))


@pytest.fixture
def federation(original: Federation, tmp_path: Path) -> Federation:
    shutil.copytree(original.folder, tmp_path / "copy")
    return Federation(
        folder=tmp_path / "copy",
        homes={name: tmp_path / "copy" / "homes" / name for name in original.homes},
        issuer_public=original.issuer_public,
        signed=original.signed,
    )


def lists_of_a_thief(federation: Federation, *, publications: int) -> bytes:
    """What whoever has the issuer's folder publishes: a list that everybody accepts, of a high epoch."""
    stolen = federation.folder / "stolen-issuer"
    shutil.copytree(federation.issuer, stolen)
    command(issuer_app, "revoke", "carl", "--issuer", stolen)
    out = federation.folder / "thief.bin"
    for _ in range(publications):
        command(issuer_app, "publish", "--issuer", stolen, "--out", out)
    return out.read_bytes()


def new_issuer(federation: Federation) -> Federation:
    """Steps three to five: a new key, everybody's new request with its fingerprint compared, a first list."""
    folder = federation.folder / "new-issuer"
    made = command(issuer_app, "init", "--issuer", folder)
    for name, home in federation.homes.items():
        out = federation.folder / f"{name}-again.json"
        roles = [text for role in ROLES[name] for text in ("--role", role)]
        asked = command(client_app, "keys", "request", "--home", home, "--out", out, *roles)
        command(issuer_app, "enrol", out, "--issuer", folder, "--fingerprint", asked["fingerprint"])
    out = federation.folder / "new-roster.bin"
    assert command(issuer_app, "publish", "--issuer", folder, "--out", out)["epoch"] == 1
    return Federation(
        folder=federation.folder,
        homes=federation.homes,
        issuer_public=made["public_key"],
        signed=out.read_bytes(),
        attempt=federation.attempt,
    )


def test_a_stolen_issuer_key(federation: Federation) -> None:
    old = federation.signed
    assert works(federation.turn())
    false = lists_of_a_thief(federation, publications=7)
    # What a thief can do: its list counts, and the tenant that it took off is refused by everybody's helper.
    assert errors_of(federation.turn(false)) == {"carl": "UnknownKey"}
    assert errors_of(federation.turn(old)) == dict.fromkeys(federation.homes, "OldRoster")

    # At once, by telephone: no job at all, whoever's list it comes with.
    for name in federation.homes:
        federation.set_policy(name, issuer_public_key="")
    for signed in (old, false):
        assert set(errors_of(federation.turn(signed))) == set(federation.homes)

    renewed = new_issuer(federation)
    for name in renewed.homes:
        renewed.set_policy(name, issuer_public_key=renewed.issuer_public)
    # The first list of the new key serves, though the thief's had a higher epoch; helpers' pins are as they were.
    assert works(renewed.turn())
    for signed in (old, false):
        refused = errors_of(sent_with(renewed, signed))
        assert refused == dict.fromkeys(renewed.homes, "BadSignature")
    assert works(renewed.turn())
    # A new issuer is a new start of the list and not of the account.
    assert all(len(renewed.home(name).ledger.spent()) > 0 for name in renewed.homes)


def sent_with(federation: Federation, signed: bytes) -> dict[str, Refusal]:
    federation.attempt += 1
    replies = {name: federation.contribution_of(home, signed) for name, home in federation.homes.items()}
    return {name: reply for name, reply in replies.items() if isinstance(reply, Refusal)}


def test_a_partner_that_has_not_pinned_the_new_key_takes_no_part_and_spoils_nothing(federation: Federation) -> None:
    assert works(federation.turn())
    renewed = new_issuer(federation)
    for name in ("anna", "bert"):
        renewed.set_policy(name, issuer_public_key=renewed.issuer_public)
    assert errors_of(renewed.turn()) == {"carl": "BadSignature"}
    # Nor does a list under the old key reach those who did.
    assert set(sent_with(renewed, federation.signed)) == {"anna", "bert"}


def test_a_thief_cannot_put_its_own_keys_in_a_pinned_helper_s_place(federation: Federation) -> None:
    thief = federation.folder / "thief-home"
    command(
        client_app, "init", "--name", "bert", "--catalogue", federation.folder / "catalogue.bin",
        "--declared-users", 20, "--home", thief,
    )  # fmt: skip
    request = federation.folder / "bert-false.json"
    command(
        client_app, "keys", "request", "--home", thief, "--out", request, "--role", "tenant", "--role", "helper"
    )  # fmt: skip
    federation.revoke("bert")
    federation.enrol(request)
    federation.publish()
    said = errors_of(federation.turn())
    assert {name: said[name] for name in ("anna", "carl")} == dict.fromkeys(("anna", "carl"), "PolicyViolation")


def test_a_lost_issuer_key_leaves_the_time_until_the_last_list_expires(federation: Federation) -> None:
    shutil.rmtree(federation.issuer)
    with pytest.raises(ZhiyinError):
        federation.publish()
    assert works(federation.turn())
    expires_at = federation.roster().expires_at
    assert expires_at > time.time() + 29 * DAY

    # A copy: a home that has recorded something at that time answers nothing now.
    later = shutil.copytree(federation.homes["carl"], federation.folder / "carl, later")

    def at(now: int) -> object:
        federation.attempt += 1
        request = ContributionRequest(
            plan_json=plan_to_json(federation.plan), step=0, attempt=federation.attempt, roster=federation.signed,
            inputs={},
        )  # fmt: skip
        home = ClientHome.open(later)
        return decode(answer(home, encode(request), now=now, random_bytes=os.urandom))

    assert isinstance(at(expires_at - 1), ContributionReply)
    refused = at(expires_at + 1)
    assert isinstance(refused, Refusal)
    assert refused.error == "ExpiredKey"

    renewed = new_issuer(federation)
    for name in renewed.homes:
        renewed.set_policy(name, issuer_public_key=renewed.issuer_public)
    assert works(renewed.turn())
