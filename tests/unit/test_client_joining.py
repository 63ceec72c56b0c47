"""Joining shows what it would pin, asks for a comparison, pins it, and never replaces a key that is pinned."""

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import client_app
from client.home import POLICY_FILE, ClientHome
from client.inspection import diagnose
from client.joining import AUTHORITY_FILE, INVITATION_FILE, POLICY_BEFORE_FILE, join, joined, pins
from client.policy_file import render_policy
from client.supernode import NodeSettings
from shared.errors import BadSetting, BadSignature, ExpiredKey, UnknownKey, ZhiyinError
from shared.invitation import InvitedHelper, open_invitation
from tests.invitation_cast import (
    DAY,
    DIGEST,
    HELPERS,
    ISSUER,
    NOW,
    PLATFORM,
    PUBLISHER,
    certificate,
    invitation_of,
    signed,
)
from tests.secagg_cast import certified, public_hex, signing_key
from tests.unit.client_homes import make_home

RUNNER = CliRunner()
STRANGER = signing_key("stranger")


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def home(tmp_path: Path) -> ClientHome:
    return make_home(tmp_path, helpers={})


def ran(*arguments: object) -> str:
    result = RUNNER.invoke(client_app, [str(argument) for argument in arguments], catch_exceptions=True)
    if isinstance(result.exception, ZhiyinError):
        assert "\n" not in str(result.exception)
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def file_of(folder: Path, data: bytes) -> Path:
    path = folder / "given.json"
    path.write_bytes(data)
    return path


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def joined_home(home: ClientHome, pem: str, **changes: Any) -> ClientHome:
    data = signed(pem, **changes)
    join(home.folder, data, open_invitation(data, NOW))
    return ClientHome.open(home.folder)


def test_what_would_be_pinned_is_shown_and_nothing_changes_before_the_fingerprint_was_compared(
    home: ClientHome, pem: str, tmp_path: Path
) -> None:
    path, before = file_of(tmp_path, signed(pem)), everything(home.folder)
    result = RUNNER.invoke(client_app, ["join", str(path), "--home", str(home.folder)])
    assert isinstance(result.exception, BadSetting)
    fingerprint = invitation_of(pem).fingerprint
    for shown in ("清河大学", public_hex(ISSUER), public_hex(PUBLISHER), DIGEST, "127.0.0.1:9092", fingerprint):
        assert shown in result.stdout
    assert fingerprint in str(result.exception)
    with pytest.raises(BadSetting, match="the fingerprint of the invitation"):
        ran("join", path, "--home", home.folder, "--fingerprint", "0" * 32)
    assert everything(home.folder) == before


@pytest.mark.parametrize("by", ["fingerprint", "yes"])
def test_joining_pins_what_policies_and_nodes_go_by(home: ClientHome, pem: str, tmp_path: Path, by: str) -> None:
    path = file_of(tmp_path, signed(pem))
    word = ["--yes"] if by == "yes" else ["--fingerprint", invitation_of(pem).fingerprint.upper()]
    said = json.loads(ran("join", path, "--home", home.folder, "--json", *word))
    assert {pin["what"] for pin in said["pins"]} >= {"issuer key", "helper north", "server's authority"}
    policy = ClientHome.open(home.folder).policy
    assert policy.issuer_public_key == public_hex(ISSUER)
    assert policy.publisher_public_key == public_hex(PUBLISHER)
    assert policy.app_digests == (DIGEST,)
    assert {name: pin.signing for name, pin in policy.helpers.items()} == {h.name: h.signing for h in HELPERS}
    assert (policy.name, policy.epsilon, policy.declared_users) == (home.policy.name, 4.0, 500)
    assert joined(home.folder) == invitation_of(pem)
    assert (home.folder / AUTHORITY_FILE).read_text() == pem
    assert 'issuer_public_key = ""' in (home.folder / POLICY_BEFORE_FILE).read_text()
    for name in (INVITATION_FILE, AUTHORITY_FILE, "policy.toml", POLICY_BEFORE_FILE):
        assert stat.S_IMODE((home.folder / name).stat().st_mode) == 0o600


def test_joining_again_changes_nothing(home: ClientHome, pem: str) -> None:
    again = joined_home(home, pem)
    before = everything(home.folder)
    joined_home(again, pem)
    assert everything(home.folder) == before
    assert not any(pin.is_new for pin in pins(again.policy, joined(home.folder), invitation_of(pem)))


@pytest.mark.parametrize(
    ("field", "what"),
    [("issuer_key", "issuer key"), ("publisher_key", "publisher key"), ("catalogue_key", "catalogue key")],
)
def test_a_changed_key_is_refused_whoever_signs_it(home: ClientHome, pem: str, field: str, what: str) -> None:
    joined_home(home, pem)
    before = everything(home.folder)
    with pytest.raises(UnknownKey, match=f"another {what}"):
        joined_home(home, pem, **{field: "9" * 64})
    assert everything(home.folder) == before


def test_another_platform_is_refused_even_with_every_other_key_as_it_was(home: ClientHome, pem: str) -> None:
    joined_home(home, pem)
    data = signed(pem, key=STRANGER)
    with pytest.raises(UnknownKey, match="another platform key"):
        join(home.folder, data, open_invitation(data, NOW))


def test_a_helper_with_another_key_is_refused_and_a_further_one_is_added(home: ClientHome, pem: str) -> None:
    joined_home(home, pem, helpers=HELPERS[:1])
    assert set(joined_home(home, pem).policy.helpers) == {"north", "south"}
    swapped = tuple(
        type(helper)(name=other.name, signing=helper.signing, sealing=helper.sealing)
        for helper, other in zip(HELPERS, reversed(HELPERS), strict=True)
    )
    with pytest.raises(UnknownKey, match="another helper"):
        pins(ClientHome.open(home.folder).policy, joined(home.folder), invitation_of(pem, helpers=swapped))


def test_joining_says_when_a_plan_need_not_name_all_pinned_helpers(home: ClientHome, pem: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, signed(pem))
    asked = ["join", str(path), "--home", str(home.folder), "--yes", "--json"]
    first = RUNNER.invoke(client_app, asked)
    assert json.loads(first.stdout)["warnings"] == []
    third = InvitedHelper(
        name="east", signing=public_hex(signing_key("east")), sealing=certified("east", not_after=NOW + DAY)
    )
    path.write_bytes(signed(pem, helpers=(*HELPERS, third)))
    (warning,) = json.loads(RUNNER.invoke(client_app, asked).stdout)["warnings"]
    for words in ("3 helpers are pinned and min_helpers is 2", "may name any 2 of them", "Raise min_helpers to 3"):
        assert words in warning
    # Shown before anything is changed, too.
    assert warning in RUNNER.invoke(client_app, asked[:4]).stderr
    (found,) = (each for each in diagnose(home.folder, now=NOW) if each.check == "min_helpers")
    assert (found.severity, found.message) == ("warning", warning)
    raised = replace(ClientHome.open(home.folder).policy, min_helpers=3)
    (home.folder / POLICY_FILE).write_text(render_policy(raised))
    assert json.loads(RUNNER.invoke(client_app, asked).stdout)["warnings"] == []
    assert not any(each.check == "min_helpers" for each in diagnose(home.folder, now=NOW))


def test_an_issuer_that_was_pinned_by_hand_is_as_firm_as_one_of_an_invitation(tmp_path: Path, pem: str) -> None:
    home = make_home(tmp_path, helpers={}, issuer_public_key="8" * 64)
    with pytest.raises(UnknownKey, match=r"take the old one out of policy\.toml"):
        joined_home(home, pem)
    assert joined(home.folder) is None


def test_a_new_bundle_is_allowed_beside_the_old_one_and_an_address_may_move(home: ClientHome, pem: str) -> None:
    joined_home(home, pem)
    moved = joined_home(home, pem, app_digest="cd" * 32, superlink="127.0.0.1:9999")
    assert moved.policy.app_digests == (DIGEST, "cd" * 32)
    found = joined(home.folder)
    assert found is not None
    assert found.superlink == "127.0.0.1:9999"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (lambda pem: signed(pem).replace(public_hex(ISSUER).encode(), b"9" * 64), BadSignature),
        (lambda pem: signed(pem, issued_at=NOW - 9 * DAY, expires_at=NOW - DAY), ExpiredKey),
        (lambda pem: b"{}", ZhiyinError),
    ],
    ids=["tampered", "expired", "no invitation"],
)
def test_what_is_no_invitation_now_changes_nothing_even_with_yes(
    home: ClientHome, pem: str, tmp_path: Path, data: Any, error: type[Exception]
) -> None:
    path, before = file_of(tmp_path, data(pem)), everything(home.folder)
    with pytest.raises(error):
        ran("join", path, "--home", home.folder, "--yes")
    assert everything(home.folder) == before


def test_a_kept_invitation_that_was_edited_is_noticed(home: ClientHome, pem: str) -> None:
    joined_home(home, pem)
    path = home.folder / INVITATION_FILE
    path.write_bytes(path.read_bytes().replace(b'"127.0.0.1:9092"', b'"127.0.0.1:9093"'))
    with pytest.raises(BadSetting, match="join again"):
        joined(home.folder)


def test_a_node_starts_with_what_was_joined(home: ClientHome, pem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[NodeSettings] = []
    monkeypatch.setattr("client.supernode.run", lambda folder, settings: asked.append(settings))
    with pytest.raises(BadSetting, match="join with an invitation first"):
        ran("run", "--home", home.folder)
    joined_home(home, pem)
    ran("run", "--home", home.folder)
    ran("run", "--home", home.folder, "--superlink", "127.0.0.1:1")
    assert [settings.superlink for settings in asked] == ["127.0.0.1:9092", "127.0.0.1:1"]
    assert asked[0].root_certificates == home.folder / AUTHORITY_FILE
    assert asked[0].allowed_digests == {DIGEST}


def test_without_a_home_a_name_is_needed(tmp_path: Path, pem: str) -> None:
    with pytest.raises(BadSetting, match="--name"):
        ran("join", file_of(tmp_path, signed(pem)), "--home", tmp_path / "none", "--yes")
    assert PLATFORM.public_key().public_bytes_raw().hex() == invitation_of(pem).platform_key
