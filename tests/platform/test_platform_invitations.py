"""The platform hands out invitations to programs that it enrolled, and says of the federation what it was told."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared.errors import BadSignature
from shared.invitation import open_invitation
from tests.invitation_cast import DIGEST, ISSUER, NOW, PUBLISHER
from tests.platform_cast import Person, Shop, opened_shop
from tests.platform_served import describe
from tests.secagg_cast import public_hex


@pytest.fixture
def described(tmp_path: Path) -> Path:
    path = tmp_path / "federation.json"
    path.write_text(json.dumps(describe(tmp_path)))
    return path


@pytest.fixture
def inviting(settings_of: Any, described: Path) -> Any:
    with opened_shop(settings_of(federation_file=described)) as shop:
        yield shop


def client_of(operator: Person, tenant: str | None = "清河大学") -> str:
    tenant_id = None if tenant is None else operator.post("/tenants", {"name": tenant}).json()["id"]
    scopes = ["fl:join"] if tenant else ["models:publish"]
    wish = {"name": "a laboratory", "scopes": scopes, "tenant_id": tenant_id}
    made = operator.post("/clients", wish)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def test_a_tenant_gets_what_it_has_to_pin_signed_and_for_a_time(inviting: Shop) -> None:
    operator = inviting.register(None, "platform-operator")
    client_id = client_of(operator)
    answer = operator.post(f"/clients/{client_id}/invitations", {"days": 3})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    now = int(inviting.clock().timestamp())
    # The helpers' certificates are of the day on which the tests run; the service's clock stands elsewhere.
    fields = answer.json()["fields"]
    assert (fields["issued_at"], fields["expires_at"]) == (now, now + 3 * 86_400)
    assert (fields["invited"], fields["role"], fields["client_id"]) == ("清河大学", "tenant", client_id)
    assert fields["issuer_key"] == public_hex(ISSUER)
    assert fields["publisher_key"] == public_hex(PUBLISHER)
    assert fields["app_digest"] == DIGEST
    assert [helper["name"] for helper in fields["helpers"]] == ["north", "south"]
    assert fields["platform_key"] != fields["catalogue_key"]
    snapshots = fields["snapshots_url"].removeprefix(fields["platform_url"])
    assert inviting.http.get(snapshots).json()["items"] == []


def test_an_invitation_holds_no_secret_and_is_checked_as_a_party_checks_it(inviting: Shop) -> None:
    inviting.clock.now = datetime.fromtimestamp(NOW, UTC)
    operator = inviting.register(None, "platform-operator")
    tenant_id = operator.post("/tenants", {"name": "North"}).json()["id"]
    wish = {"name": "node", "scopes": ["fl:join"], "tenant_id": tenant_id}
    credentials = operator.post("/clients", wish).json()
    data = operator.post(f"/clients/{credentials['id']}/invitations", {}).content
    assert credentials["client_secret"].encode() not in data
    assert inviting.settings.secret_key.get_secret_value().encode() not in data
    opened = open_invitation(data, NOW)
    assert opened.invited == "North"
    with pytest.raises(BadSignature):
        open_invitation(data.replace(public_hex(ISSUER).encode(), b"9" * 64), NOW)


def test_a_researchers_program_is_invited_by_its_own_name(inviting: Shop) -> None:
    operator = inviting.register(None, "platform-operator")
    fields = operator.post(f"/clients/{client_of(operator, None)}/invitations", {}).json()["fields"]
    assert (fields["role"], fields["invited"]) == ("researcher", "a laboratory")


def test_only_an_operator_of_the_platform_invites(inviting: Shop) -> None:
    operator = inviting.register(None, "platform-operator")
    path = f"/clients/{client_of(operator)}/invitations"
    tenant_id = operator.post("/tenants", {"name": "another"}).json()["id"]
    assert inviting.http.post(f"/api/v1{path}", json={}).status_code == 401
    others = [
        inviting.register(None, role, tenant_id=tenant_id) for role in ("learner", "tenant-operator", "researcher")
    ]
    for caller in (*others, inviting.machine("models:publish")):
        assert caller.post(path, {}).status_code == 403
    assert operator.post(path, {}).status_code == 201


def test_a_client_that_is_not_there_or_was_revoked_is_not_invited(inviting: Shop) -> None:
    operator = inviting.register(None, "platform-operator")
    client_id = client_of(operator)
    assert operator.post("/clients/cli_none/invitations", {}).status_code == 404
    assert operator.send("DELETE", f"/clients/{client_id}").status_code == 204
    assert operator.post(f"/clients/{client_id}/invitations", {}).status_code == 409


def test_an_invitation_lasts_days_and_not_for_ever(inviting: Shop) -> None:
    operator = inviting.register(None, "platform-operator")
    path = f"/clients/{client_of(operator)}/invitations"
    answers = [operator.post(path, {"days": days}).status_code for days in (0, 91, "x", 1.5, 90)]
    assert answers == [422, 422, 422, 422, 201]


def test_a_description_that_cannot_be_used_is_told_to_the_operator(inviting: Shop, described: Path) -> None:
    operator = inviting.register(None, "platform-operator")
    path, sound = f"/clients/{client_of(operator)}/invitations", described.read_text()
    bad_fields = ({"surprise": 1}, {"issuer_key": "x"}, {"helpers": [{"name": "a"}]}, {"certificate": "none"})
    for text in ("", "{", "[]", *(json.dumps({**json.loads(sound), **bad}) for bad in bad_fields)):
        described.write_text(text)
        assert operator.post(path, {}).status_code == 409, text
        # It is read anew every time, so mending it needs no restart.
        described.write_text(sound)
        assert operator.post(path, {}).status_code == 201
    described.unlink()
    assert operator.post(path, {}).status_code == 409


def test_without_a_description_nobody_is_invited(shop: Shop) -> None:
    operator = shop.register(None, "platform-operator")
    answer = operator.post(f"/clients/{client_of(operator)}/invitations", {})
    assert answer.status_code == 409
    assert "zhiyin server describe" in answer.json()["detail"]
