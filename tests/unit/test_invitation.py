"""An invitation says one thing to everybody who checks it, and nothing that was bent on the way is accepted."""

import json
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import BadSetting, BadSignature, ExpiredKey, MalformedMessage
from shared.invitation import (
    KIND,
    Invitation,
    InvitedHelper,
    certificate_fingerprint,
    open_invitation,
    read_invitation,
    sign_invitation,
)
from shared.signed_document import sign_document
from simulations.deployment.certificates import make_server_certificates
from tests.invitation_cast import DAY, HELPERS, NOW, PLATFORM, certificate, invitation_of, signed
from tests.secagg_cast import certified, public_hex, signing_key


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    return certificate(tmp_path_factory.mktemp("tls"))


def changed(data: bytes, **change: Any) -> bytes:
    """With the same signature."""
    document = json.loads(data)
    document["fields"].update(change)
    return json.dumps(document).encode()


def resigned(data: bytes, key: Ed25519PrivateKey = PLATFORM, **change: Any) -> bytes:
    """As a platform would sign it that means ill, or has a fault."""
    return sign_document(KIND, {**json.loads(data)["fields"], **change}, key)


def test_an_invitation_opens_to_what_was_signed_with_one_fingerprint(pem: str) -> None:
    made = invitation_of(pem)
    opened = open_invitation(signed(pem), NOW)
    assert opened == made
    assert opened.fingerprint == made.fingerprint
    assert replace(made, issuer_key="9" * 64).fingerprint != made.fingerprint
    assert read_invitation(signed(pem)) == made


def test_layout_may_change_on_the_way_and_nothing_else(pem: str) -> None:
    assert open_invitation(json.dumps(json.loads(signed(pem))).encode(), NOW) == invitation_of(pem)


OTHERS: dict[str, Any] = {
    "invited": "somebody else", "role": "researcher", "client_id": "cli_other", "platform_url": "http://127.0.0.1:1",
    "snapshots_url": "http://127.0.0.1:8000/api/v1/other", "catalogue_key": "9" * 64, "publisher_key": "9" * 64,
    "model": "other", "issuer_key": "9" * 64, "app_digest": "9" * 64, "superlink": "127.0.0.1:9", "helpers": [],
    "issued_at": NOW - 1, "expires_at": NOW + 365 * DAY,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(OTHERS) - {"platform_url"}))
def test_a_changed_field_breaks_the_signature(pem: str, name: str) -> None:
    with pytest.raises(BadSignature):
        open_invitation(changed(signed(pem), **{name: OTHERS[name]}), NOW)
    # The value is a good one: signed, it is accepted, or is refused for its time alone.
    open_invitation(resigned(signed(pem), **{name: OTHERS[name]}), NOW)


def test_every_field_is_under_the_signature() -> None:
    assert set(OTHERS) | {"platform_key", "certificate"} == set(Invitation.__dataclass_fields__)


def test_another_platforms_signature_does_not_fit_its_key(pem: str) -> None:
    stranger = Ed25519PrivateKey.generate()
    with pytest.raises(BadSignature):
        open_invitation(resigned(signed(pem), stranger), NOW)
    with pytest.raises(BadSetting, match="the key that signs"):
        sign_invitation(invitation_of(pem), stranger)


def test_a_document_of_another_kind_is_none(pem: str) -> None:
    fields = json.loads(signed(pem))["fields"]
    with pytest.raises(MalformedMessage, match="no document of the kind"):
        open_invitation(sign_document("zhiyin-enrolment-1", fields, PLATFORM), NOW)


@pytest.mark.parametrize("later", [-61, 14 * DAY + 1])
def test_an_invitation_is_refused_outside_its_time(pem: str, later: int) -> None:
    with pytest.raises(ExpiredKey, match="ask the platform's operator for a new one"):
        open_invitation(signed(pem), NOW + later)


BAD: list[tuple[str, Any, str]] = [
    ("invited", "", "invited must be"),
    ("invited", "two\nlines", "invited must be"),
    ("role", "server", "role must be"),
    ("role", ["tenant"], "role must be"),
    ("client_id", "a b", "client_id must be"),
    ("platform_key", "A" * 64, "platform_key must be 64 hex digits"),
    ("issuer_key", "", "issuer_key must be 64 hex digits"),
    ("publisher_key", 7, "publisher_key must be 64 hex digits"),
    ("catalogue_key", None, "catalogue_key must be 64 hex digits"),
    ("app_digest", "0" * 63, "app_digest must be 64 hex digits"),
    ("model", "../model", "model must be"),
    ("platform_url", "http://shop.example", "platform_url must be https"),
    ("platform_url", "https://user:word@shop.example", "platform_url must be a plain URL"),
    ("platform_url", "file:///etc/passwd", "platform_url must be a plain URL"),
    ("platform_url", "https://shop.example/?q", "platform_url must be a plain URL"),
    ("platform_url", "https://shop.example:99999", "platform_url must be a plain URL"),
    ("snapshots_url", "https://elsewhere.example/snapshots", "snapshots_url must lie below platform_url"),
    ("superlink", "127.0.0.1", "superlink must be host:port"),
    ("superlink", "127.0.0.1:0", "superlink must be host:port"),
    ("certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate must be one"),
    ("certificate", "x" * 20_000, "certificate must be one"),
    ("helpers", {}, "helpers must be a list"),
    ("helpers", [{"name": "north"}], "each of helpers must have"),
    ("issued_at", 1.5, "issued_at and expires_at"),
    ("expires_at", NOW - 61, "issued_at and expires_at"),
    ("secret", "s3cret", "'secret' is no field"),
]


@pytest.mark.parametrize(
    ("name", "value", "message"), BAD, ids=[f"{name} {number}" for number, (name, _, _) in enumerate(BAD)]
)
def test_a_bad_field_is_one_clear_error(pem: str, name: str, value: Any, message: str) -> None:
    document = json.loads(signed(pem))
    document["fields"][name] = value
    with pytest.raises(MalformedMessage, match=message) as caught:
        open_invitation(json.dumps(document).encode(), NOW)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(Invitation.__dataclass_fields__))
def test_a_missing_field_is_named(pem: str, name: str) -> None:
    document = json.loads(signed(pem))
    del document["fields"][name]
    with pytest.raises(MalformedMessage, match=f"{name} is missing"):
        open_invitation(json.dumps(document).encode(), NOW)


def test_a_helpers_sealing_key_must_be_certified_by_that_helper_and_now(pem: str) -> None:
    swapped = replace(HELPERS[0], sealing=certified("south"))
    data = sign_invitation(invitation_of(pem, helpers=(swapped,)), PLATFORM)
    with pytest.raises(BadSignature, match="north"):
        open_invitation(data, NOW)
    late = certified("north", not_before=0, not_after=NOW - 1)
    data = sign_invitation(invitation_of(pem, helpers=(replace(HELPERS[0], sealing=late),)), PLATFORM)
    with pytest.raises(ExpiredKey, match="north"):
        open_invitation(data, NOW)


def test_one_party_under_two_names_is_refused(pem: str) -> None:
    twin = InvitedHelper(name="twin", signing=HELPERS[0].signing, sealing=HELPERS[1].sealing)
    with pytest.raises(BadSetting, match="two helpers share a signing key"):
        invitation_of(pem, helpers=(HELPERS[0], twin))


def test_a_certificate_of_a_version_that_does_not_exist_is_none(pem: str) -> None:
    der = ssl.PEM_cert_to_DER_cert(pem)
    assert der.count(b"\xa0\x03\x02\x01\x02") == 1
    eleventh = ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x0a"))
    with pytest.raises(MalformedMessage, match="certificate must be one"):
        open_invitation(resigned(signed(pem), certificate=eleventh), NOW)


def test_an_authority_that_ran_out_is_told_now_and_not_at_the_first_connection(tmp_path: Path) -> None:
    then = datetime.fromtimestamp(NOW, UTC) - timedelta(days=30)
    old = make_server_certificates(tmp_path, now=then).authority.read_text()
    with pytest.raises(ExpiredKey, match="certificate"):
        open_invitation(signed(old), NOW)


def test_no_helpers_are_needed_where_institutions_mask_for_each_other(pem: str) -> None:
    assert open_invitation(sign_invitation(invitation_of(pem, helpers=()), PLATFORM), NOW).helpers == ()


def test_a_certificates_fingerprint_is_of_its_contents(pem: str, tmp_path: Path) -> None:
    assert certificate_fingerprint(pem) == certificate_fingerprint(pem.replace("\n", "\r\n"))
    assert certificate_fingerprint(pem) != certificate_fingerprint(certificate(tmp_path))
    assert public_hex(signing_key("north")) == HELPERS[0].signing
