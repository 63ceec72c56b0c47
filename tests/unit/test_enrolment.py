"""A party's request to be listed: what it proves, and what the issuer's register makes of it."""

import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from client.issuing.register import (
    SECONDS_A_DAY,
    Register,
    enrol,
    extend,
    next_roster,
    notices,
    register_from_json,
    register_to_json,
    revoke,
)
from shared.enrolment import EnrolmentRequest, open_request, sign_request
from shared.errors import BadSetting, BadSignature, ExpiredKey, MalformedMessage
from shared.fingerprint import fingerprint, require_fingerprint
from shared.node_key import canonical_node_key
from shared.roster import open_roster, sign_roster
from shared.signed_document import sign_document
from tests.secagg_cast import certified, public_hex, sealing_key, signing_key

NOW = 1_000
EMPTY = Register(epoch=0, members=(), retired=())


def node_key(name: str) -> str:
    key = ec.derive_private_key(sum(name.encode()) + 1, ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def request_of(name: str, /, **changes: Any) -> EnrolmentRequest:
    helper = name in ("north", "south")
    fields: dict[str, Any] = {
        "name": name,
        "roles": ("tenant", "helper") if helper else ("tenant",),
        "signing_key": public_hex(signing_key(name)),
        "sealing": certified(name) if helper else None,
        "node_public_key": node_key(name),
        "created_at": NOW,
    }
    return EnrolmentRequest(**{**fields, **changes})


SIGNED = sign_request(request_of("north"), signing_key("north"))


def changed(change: dict[str, Any]) -> bytes:
    document = json.loads(SIGNED)
    document["fields"].update(change)
    return json.dumps(document).encode()


def test_a_request_opens_to_what_was_asked_with_the_same_fingerprint_on_both_sides() -> None:
    opened = open_request(SIGNED, NOW)
    assert opened == request_of("north")
    assert opened.fingerprint == request_of("north").fingerprint
    assert len(opened.fingerprint.split()) == 8


def test_white_space_may_change_on_the_way() -> None:
    assert open_request(json.dumps(json.loads(SIGNED), indent=7).encode(), NOW) == request_of("north")


def test_the_fingerprint_follows_every_field() -> None:
    others = [
        request_of("north", created_at=NOW + 1),
        request_of("north", roles=("helper",)),
        request_of("north", name="south"),
        request_of("north", node_public_key=node_key("south")),
        request_of("north", signing_key=public_hex(signing_key("south"))),
        request_of("north", sealing=certified("north", not_after=5 * NOW)),
    ]
    assert len({other.fingerprint for other in (request_of("north"), *others)}) == 7


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (b"", MalformedMessage, "damaged"),
        (SIGNED[:-20], MalformedMessage, "damaged"),
        (b"[" * 100_000, MalformedMessage, "damaged"),
        (b"[]", MalformedMessage, "no document of the kind"),
        (SIGNED.replace(b"zhiyin-enrolment-1", b"zhiyin-register-1"), MalformedMessage, "no document of the kind"),
        (changed({"created_at": 999}), BadSignature, "not signed by the key that it asks to be listed"),
        (changed({"name": "south"}), BadSignature, "not signed by"),
        (changed({"name": "North"}), MalformedMessage, "name"),
        (changed({"roles": []}), MalformedMessage, "roles"),
        (changed({"roles": ["tenant"]}), MalformedMessage, "sealing key"),
        (changed({"sealing": None}), MalformedMessage, "sealing key"),
        (changed({"sealing": "x"}), MalformedMessage, "no usable request"),
        (changed({"node_public_key": "ssh-rsa AAAA"}), MalformedMessage, "P-384"),
        (changed({"more": 1}), MalformedMessage, "the fields"),
        (sign_request(request_of("north"), signing_key("mallory")), BadSignature, "not signed by"),
    ],
)
def test_a_request_that_cannot_be_accepted_is_refused_in_one_line(
    data: bytes, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as refused:
        open_request(data, NOW)
    assert "\n" not in str(refused.value)


def test_a_sealing_key_certified_for_another_name_or_time_is_refused() -> None:
    for sealing, error in (
        (certified("south"), BadSignature),
        (certified("north", name="south"), BadSignature),
        (certified("north", not_after=NOW - 1), ExpiredKey),
    ):
        with pytest.raises(error):
            open_request(sign_request(request_of("north", sealing=sealing), signing_key("north")), NOW)


def test_a_fingerprint_is_compared_however_it_is_grouped_and_never_in_part() -> None:
    known = fingerprint(b"key")
    for spoken in (known, known.upper(), known.replace(" ", ""), known.replace(" ", "-")):
        require_fingerprint(spoken, known, "it")
    for wrong in (known[:-1], known[:4], known + "0", fingerprint(b"other")):
        with pytest.raises(BadSetting, match="nothing was changed"):
            require_fingerprint(wrong, known, "it")


# --- the register ---


def filled() -> Register:
    register = EMPTY
    for name in ("north", "south", "amber"):
        register = enrol(register, request_of(name), now=NOW, days=1)
    return register


def test_what_is_enrolled_is_published_under_rising_epochs() -> None:
    register, first = next_roster(filled(), now=NOW, days=1)
    issuer = signing_key("issuer")
    opened = open_roster(sign_roster(first, issuer), public_hex(issuer), NOW)
    assert [(member.name, member.roles) for member in opened.entries] == [
        ("amber", ("tenant",)), ("north", ("tenant", "helper")), ("south", ("tenant", "helper")),
    ]  # fmt: skip
    register, second = next_roster(register, now=NOW, days=1)
    _, third = next_roster(register, now=NOW, days=1, after=40)
    assert (first.epoch, second.epoch, third.epoch) == (1, 2, 41)


def test_a_revoked_party_is_gone_and_its_keys_never_come_back() -> None:
    register = revoke(filled(), "north")
    _, roster = next_roster(register, now=NOW, days=1)
    assert [member.name for member in roster.entries] == ["amber", "south"]
    for request in (
        request_of("north"),
        request_of("north", signing_key=public_hex(signing_key("again")), node_public_key=node_key("again")),
        request_of("amberx", node_public_key=node_key("north")),
    ):
        with pytest.raises(BadSetting, match="taken off before"):
            enrol(register, request, now=NOW, days=1)
    fresh = {
        "signing_key": public_hex(signing_key("again")),
        "sealing": certified("north", key=public_hex(sealing_key("again")), signing_key=signing_key("again")),
        "node_public_key": node_key("again"),
    }
    assert enrol(register, request_of("north", **fresh), now=NOW, days=1).find("north").roles == ("tenant", "helper")


def test_a_name_is_not_taken_over_by_another_signing_key() -> None:
    thief = request_of("amber", signing_key=public_hex(signing_key("mallory")))
    with pytest.raises(BadSetting, match="enrolled with another signing key"):
        enrol(filled(), thief, now=NOW, days=1)


def other_forms(key: str) -> dict[str, str]:
    """The same key in other words, each of which OpenSSH reads."""
    algorithm, digits = key.split(" ")
    return {
        "a comment": f"{key} x",
        "blanks at the end": f"{key}  ",
        "two blanks": f"{algorithm}  {digits}",
        "a tab": f"{algorithm}\t{digits}",
        "a carriage return": f"{key}\r",
    }


@pytest.mark.parametrize("form", other_forms(node_key("north")))
def test_a_node_key_is_taken_in_its_one_form_only(form: str) -> None:
    other = other_forms(node_key("north"))[form]
    assert canonical_node_key(other) == node_key("north")  # it is the same key, so nothing else would refuse it
    with pytest.raises(BadSetting, match=r"request of birch: node_public_key: .*without a comment"):
        request_of("birch", node_public_key=other)
    for register in (filled(), revoke(filled(), "north")):
        with pytest.raises(MalformedMessage, match="without a comment"):
            enrol(register, open_request(resigned("birch", {"node_public_key": other}), NOW), now=NOW, days=1)


def resigned(name: str, change: dict[str, Any]) -> bytes:
    fields = json.loads(sign_request(request_of(name), signing_key(name)))["fields"]
    return sign_document("zhiyin-enrolment-1", {**fields, **change}, signing_key(name))


@pytest.mark.parametrize("form", other_forms(node_key("north")))
def test_a_register_that_holds_a_node_key_in_another_form_knows_it_again(form: str) -> None:
    other = other_forms(node_key("north"))[form]
    for written, said in ((filled(), "has a key of north"), (revoke(filled(), "north"), "taken off before")):
        text = json.dumps(register_to_json(written)).replace(json.dumps(node_key("north")), json.dumps(other))
        read = register_from_json(json.loads(text))
        assert read == written
        with pytest.raises(BadSetting, match=said):
            enrol(read, request_of("birch", node_public_key=node_key("north")), now=NOW, days=1)


@pytest.mark.parametrize("what", ["signing_key", "node_public_key", "sealing"])
def test_a_key_of_another_party_is_refused(what: str) -> None:
    fields: dict[str, Any] = {
        "signing_key": {"signing_key": public_hex(signing_key("north"))},
        "node_public_key": {"node_public_key": node_key("north")},
        "sealing": {"sealing": certified("north"), "roles": ("helper",)},
    }[what]
    with pytest.raises(BadSetting, match="has a key of north"):
        enrol(filled(), request_of("birch", **fields), now=NOW, days=1)


def test_a_rotated_key_replaces_the_old_one_which_never_comes_back() -> None:
    later = certified("north", key=public_hex(sealing_key("north-2")))
    register = enrol(filled(), request_of("north", sealing=later, created_at=NOW + 5), now=NOW, days=1)
    assert register.find("north").sealing == later
    with pytest.raises(BadSetting, match="older than the one accepted last"):
        enrol(register, request_of("north"), now=NOW, days=1)
    with pytest.raises(BadSetting, match="taken off before"):
        enrol(register, request_of("north", created_at=NOW + 9), now=NOW, days=1)


def test_a_request_from_the_future_is_refused() -> None:
    with pytest.raises(BadSetting, match="ahead"):
        enrol(EMPTY, request_of("amber", created_at=NOW + 2 * SECONDS_A_DAY), now=NOW, days=1)


def test_validity_runs_out_is_told_before_and_can_be_extended() -> None:
    register = filled()
    assert notices(register, now=NOW, seconds=0) == []
    soon = notices(register, now=NOW, seconds=14 * SECONDS_A_DAY)
    assert sum("runs out in 1 days; run: zhiyin issuer extend" in line for line in soon) == 3
    assert sum("sealing key runs out" in line for line in soon) == 2
    later = NOW + 2 * SECONDS_A_DAY
    longer = extend(register, "amber", now=later, days=30)
    assert [member.name for member in next_roster(longer, now=later, days=1)[1].entries] == ["amber"]
    with pytest.raises(BadSetting, match="nobody is enrolled"):
        next_roster(register, now=later, days=1)


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    for act in (lambda: revoke(filled(), "nort"), lambda: extend(filled(), "nort", now=NOW, days=1)):
        with pytest.raises(BadSetting, match="nort is not enrolled; enrolled: amber, north, south"):
            act()


def test_a_register_is_read_back_as_it_was_written() -> None:
    register = replace(revoke(filled(), "south"), epoch=4)
    assert register_from_json(json.loads(json.dumps(register_to_json(register)))) == register


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": -1},
        {"epoch": "1"},
        {"members": 3},
        {"members": [{}]},
        {"retired": None},
        {"retired": ["x"]},
        {"retired": [3]},
        {"more": 1},
    ],
)
def test_what_is_no_register_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadSetting, match="no register"):
        register_from_json({**register_to_json(filled()), **change})
