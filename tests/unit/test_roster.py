"""The signed list of parties: who may speak, and until when."""

import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.canonical import canonical_json
from shared.errors import BadSetting, BadSignature, ExpiredKey, MalformedMessage, UnknownKey
from shared.roster import FORMAT, Roster, open_roster, sign_roster
from shared.sealing_certificate import SealingCertificate
from tests.secagg_cast import (
    NOW,
    ROSTER,
    TENANTS,
    THREE_HELPERS,
    certified,
    member,
    public_hex,
    sealing_key,
    signing_key,
)

ISSUER = signing_key("issuer")
ISSUER_PUBLIC = public_hex(ISSUER)
SIGNED = sign_roster(ROSTER, ISSUER)


def signed_json(change: dict[str, Any] | None = None, *, body: bytes | None = None) -> bytes:
    """Whatever the issuer might be brought to sign."""
    fields = json.loads(SIGNED[64:])
    fields.update(change or {})
    raw = canonical_json(fields) if body is None else body
    return ISSUER.sign(b"zhiyin/roster/2\x00" + raw) + raw


def test_a_signed_roster_opens_to_the_same_members_and_digest() -> None:
    opened = open_roster(SIGNED, ISSUER_PUBLIC, NOW)
    assert opened == ROSTER
    assert opened.digest == ROSTER.digest
    assert opened.member("amber", NOW).roles == ("tenant",)
    assert opened.member_as("north", "helper", NOW).sealing_key != ""


def test_the_digest_follows_every_field() -> None:
    others = [
        replace(ROSTER, issued_at=1),
        replace(ROSTER, epoch=2),
        replace(ROSTER, expires_at=2 * NOW + 1),
        replace(ROSTER, entries=ROSTER.entries[1:]),
        replace(ROSTER, entries=(member("amber", not_after=NOW), *ROSTER.entries[1:])),
    ]
    assert len({ROSTER.digest, *(other.digest for other in others)}) == 6


@pytest.mark.parametrize("position", [0, 63, 64, 100, len(SIGNED) - 1])
def test_a_changed_byte_anywhere_is_refused(position: int) -> None:
    data = bytearray(SIGNED)
    data[position] ^= 1
    with pytest.raises(BadSignature):
        open_roster(bytes(data), ISSUER_PUBLIC, NOW)


@pytest.mark.parametrize("data", [b"", SIGNED[:63], SIGNED[:64], SIGNED[:-1], SIGNED + b" ", bytes(200)])
def test_a_roster_cut_or_padded_is_refused(data: bytes) -> None:
    with pytest.raises(BadSignature):
        open_roster(data, ISSUER_PUBLIC, NOW)


def test_a_roster_of_another_issuer_is_refused() -> None:
    with pytest.raises(BadSignature):
        open_roster(sign_roster(ROSTER, Ed25519PrivateKey.generate()), ISSUER_PUBLIC, NOW)


def test_a_signature_made_for_another_purpose_is_refused() -> None:
    body = SIGNED[64:]
    with pytest.raises(BadSignature):
        open_roster(ISSUER.sign(body) + body, ISSUER_PUBLIC, NOW)


@pytest.mark.parametrize("key", ["", "ab", "zz" * 32, ISSUER_PUBLIC.upper()])
def test_an_issuer_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(UnknownKey):
        open_roster(SIGNED, key, NOW)


def test_a_roster_is_valid_from_its_issue_to_before_its_expiry() -> None:
    issued = sign_roster(replace(ROSTER, issued_at=10, expires_at=20), ISSUER)
    open_roster(issued, ISSUER_PUBLIC, 10)
    open_roster(issued, ISSUER_PUBLIC, 19)
    for now in (9, 20, 10**9):
        with pytest.raises(ExpiredKey):
            open_roster(issued, ISSUER_PUBLIC, now)


def test_members_are_looked_up_by_name_validity_and_role() -> None:
    roster = Roster(entries=(member("amber", not_before=10, not_after=20),), epoch=1, issued_at=0, expires_at=100)
    assert roster.member("amber", 10) == roster.member("amber", 20)
    for now in (9, 21):
        with pytest.raises(ExpiredKey, match="amber"):
            roster.member("amber", now)
    with pytest.raises(UnknownKey, match="birch"):
        roster.member("birch", 15)
    with pytest.raises(UnknownKey, match="not as a helper"):
        roster.member_as("amber", "helper", 15)


def test_a_party_can_hold_both_roles() -> None:
    both = member("north", roles=("tenant", "helper"))
    roster = Roster(entries=(both,), epoch=1, issued_at=0, expires_at=100)
    assert roster.member_as("north", "tenant", 0) == roster.member_as("north", "helper", 0)


@pytest.mark.parametrize("name", ["", "Amber", "-a", "a" * 65, "a b", "a\n", "é", "../a", 5])
def test_a_name_that_cannot_be_used_is_refused(name: Any) -> None:
    with pytest.raises(BadSetting):
        member("amber", name=name)


@pytest.mark.parametrize(
    "change",
    [
        {"signing_key": ""},
        {"signing_key": "AB" * 32},
        {"roles": "tenant"},
        {"roles": ()},
        {"roles": ("admin",)},
        {"roles": ("tenant", "tenant")},
        {"roles": ("helper",)},  # without a sealing key
        {"not_before": 5, "not_after": 4},
        {"not_before": -1},
        {"not_after": 2**53},
        {"not_after": 1.5},
        {"not_before": True},
    ],
)
def test_a_member_that_cannot_be_used_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadSetting, match="roster"):
        member("amber", **change)


@pytest.mark.parametrize(
    "second",
    [
        {"name": "amber"},
        {"name": "other", "signing_key": public_hex(signing_key("amber"))},
    ],
)
def test_one_party_cannot_be_listed_as_two(second: dict[str, Any]) -> None:
    with pytest.raises(BadSetting, match="share"):
        Roster(entries=(member("amber"), member("birch", **second)), epoch=1, issued_at=0, expires_at=1)


def test_two_helpers_cannot_share_a_sealing_key_but_tenants_share_having_none() -> None:
    shared = member("north").sealing
    with pytest.raises(BadSetting, match="sealing_key"):
        Roster(entries=(member("north"), member("south", sealing=shared)), epoch=1, issued_at=0, expires_at=1)
    Roster(entries=(member("amber"), member("birch")), epoch=1, issued_at=0, expires_at=1)


@pytest.mark.parametrize("dates", [(5, 5), (6, 5), (-1, 5), (0, 2**53), (0.0, 5)])
def test_a_roster_without_a_span_of_validity_is_refused(dates: tuple[Any, Any]) -> None:
    with pytest.raises(BadSetting):
        Roster(entries=(), epoch=1, issued_at=dates[0], expires_at=dates[1])


@pytest.mark.parametrize("epoch", [0, -1, 1.5, True, "1", 2**53])
def test_an_epoch_is_a_whole_number_from_one(epoch: Any) -> None:
    with pytest.raises(BadSetting, match="epoch"):
        replace(ROSTER, epoch=epoch)


def test_a_helpers_sealing_key_is_certified_by_the_signing_key_that_was_pinned() -> None:
    pinned = public_hex(signing_key("north"))
    found = ROSTER.sealing_key("north", pinned=pinned, now=NOW)
    assert found == sealing_key("north").public_key().public_bytes_raw()


@pytest.mark.parametrize(
    ("sealing", "error"),
    [
        (certified("north", signing_key=ISSUER), BadSignature),  # of the issuer's making
        (certified("south"), BadSignature),  # another helper's
        (certified("north", name="south"), BadSignature),  # its own, for another name
        (replace(certified("north"), key=public_hex(sealing_key("mallory"))), BadSignature),
        (replace(certified("north"), not_after=4 * NOW), BadSignature),  # made to last longer
        (replace(certified("north"), not_before=1), BadSignature),
        (certified("north", not_after=NOW - 1), ExpiredKey),
        (certified("north", not_before=NOW + 1), ExpiredKey),
    ],
)
def test_a_sealing_key_that_the_helper_did_not_certify_for_now_is_refused(
    sealing: SealingCertificate, error: type[Exception]
) -> None:
    roster = replace(ROSTER, entries=(member("north", sealing=sealing),))
    # The list itself opens: the issuer may sign what it likes, and it does not help.
    opened = open_roster(sign_roster(roster, ISSUER), ISSUER_PUBLIC, NOW)
    with pytest.raises(error, match="north"):
        opened.sealing_key("north", pinned=public_hex(signing_key("north")), now=NOW)


def test_a_sealing_key_under_a_signing_key_that_the_issuer_swapped_is_refused_by_the_pin() -> None:
    # Issuer and server make a helper of that name themselves: consistent, and not the one that was pinned.
    mallory = signing_key("mallory")
    sealing = certified("north", key=public_hex(sealing_key("mallory")), signing_key=mallory)
    roster = replace(ROSTER, entries=(member("north", signing_key=public_hex(mallory), sealing=sealing),))
    assert roster.sealing_key("north", pinned=public_hex(mallory), now=NOW)
    with pytest.raises(BadSignature):
        roster.sealing_key("north", pinned=public_hex(signing_key("north")), now=NOW)


def test_who_is_no_helper_has_no_sealing_key() -> None:
    with pytest.raises(UnknownKey, match="not as a helper"):
        ROSTER.sealing_key("amber", pinned=public_hex(signing_key("amber")), now=NOW)


ENTRY, HELPER = (json.loads(SIGNED[64:])["entries"][place] for place in (0, -1))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "zhiyin-roster-1"},
        {"entries": None},
        {"entries": [5]},
        {"entries": [[]]},
        {"entries": [{}]},
        {"entries": [{**ENTRY, "extra": 1}]},
        {"entries": [{**ENTRY, "roles": 7}]},
        {"entries": [{**ENTRY, "roles": [["tenant"]]}]},
        {"entries": [{**ENTRY, "name": None}]},
        {"entries": [ENTRY, ENTRY]},
        {"issued_at": "0"},
        {"epoch": 0},
        {"epoch": "1"},
        {"epoch": True},
        {"entries": [{key: value for key, value in HELPER.items() if key != "sealing"}]},
        {"entries": [{**HELPER, "sealing": None}]},
        {"entries": [{**HELPER, "sealing": "12"}]},
        {"entries": [{**HELPER, "sealing": {**HELPER["sealing"], "key": "12"}}]},
        {"entries": [{**HELPER, "sealing": {**HELPER["sealing"], "signature": "12"}}]},
        {"entries": [{**HELPER, "sealing": {**HELPER["sealing"], "not_after": -1}}]},
        {"entries": [{**HELPER, "sealing": {**HELPER["sealing"], "more": 1}}]},
        {"more": 1},
    ],
)
def test_a_signed_list_of_another_format_is_malformed(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        open_roster(signed_json(change), ISSUER_PUBLIC, NOW)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b"{", b"[" * 100_000, b'{"format":1e999}'])
def test_signed_bytes_that_are_no_list_are_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        open_roster(signed_json(body=body), ISSUER_PUBLIC, NOW)


def test_a_roster_without_end_is_refused_unread() -> None:
    with pytest.raises(MalformedMessage):
        open_roster(bytes(16 * 2**20 + 1), ISSUER_PUBLIC, NOW)


def test_the_format_is_the_one_signed() -> None:
    assert json.loads(SIGNED[64:])["format"] == FORMAT
    assert {entry["name"] for entry in json.loads(SIGNED[64:])["entries"]} == {*TENANTS, *THREE_HELPERS}
