"""An auditor: a home that may only help, whatever a list calls it, and that keeps nothing to contribute."""

import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client import supernode
from client.cli import client_app
from client.home import ClientHome
from client.inspection import diagnose, status
from client.issuing.cli import issuer_app
from client.policy import LocalPolicy
from client.preview import default_plan, preview
from client.rosters import notices
from client.store import Store
from server.exchange import Exchange
from shared.errors import BadSetting
from shared.roster import Member, Roster
from shared.wire import ContributionReply, Refusal, UnmaskReply
from simulations.deployment.certificates import make_server_certificates
from tests import federation_cast
from tests.federation_cast import make_cast
from tests.identity_cast import Federation, command, errors_of, make_federation

DAY = 86_400


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Everybody is enrolled as a tenant too; bert's own policy says that it only helps."""
    federation = make_federation(tmp_path_factory.mktemp("federation"))
    bert = federation.homes["bert"]
    (bert / "store.db").unlink()
    text = (bert / "policy.toml").read_text()
    (bert / "policy.toml").write_text(text.replace('serve_as = ["tenant", "helper"]', 'serve_as = ["helper"]'))
    return federation


@pytest.fixture
def federation(original: Federation, tmp_path: Path) -> Federation:
    shutil.copytree(original.folder, tmp_path / "copy")
    homes = {name: tmp_path / "copy" / "homes" / name for name in original.homes}
    return Federation(
        folder=tmp_path / "copy", homes=homes, issuer_public=original.issuer_public, signed=original.signed
    )


def test_a_home_that_only_helps_has_no_store_and_opens(tmp_path: Path, federation: Federation) -> None:
    made = tmp_path / "auditor"
    catalogue = federation.folder / "catalogue.bin"
    command(client_app, "init", "--name", "auditor", "--catalogue", catalogue, "--helper-only", "--home", made)
    opened = ClientHome.open(made)
    assert opened.policy.serve_as == ("helper",)
    assert not (made / "store.db").exists()
    with pytest.raises(BadSetting, match="keeps no histories"):
        _ = opened.store
    assert status(opened, now=0)["store"] == {"users": 0, "items": 0, "events": 0}
    assert not [finding for finding in diagnose(made, now=0) if finding.severity == "error"]
    for arguments in (("export", "--user", "u"), ("erase", "--user", "u"), ("recommend", "--user", "u")):
        result = CliRunner().invoke(client_app, [*arguments, "--home", str(made)])
        assert isinstance(result.exception, BadSetting)
    assert command(client_app, "catalogue", catalogue, "--home", made)["events_left_out"] == 0


def test_it_refuses_contributions_though_the_list_calls_it_a_tenant_and_helps(federation: Federation) -> None:
    assert "tenant" in federation.roster().member("bert", int(time.time())).roles
    federation.attempt = 1
    said = federation.contribution_of(federation.homes["bert"])
    assert said == Refusal(party="bert", error="PolicyViolation", message="bert serves as helper only, not as a tenant")
    replies = [federation.contribution_of(federation.homes[name]) for name in ("anna", "carl")]
    sent = [reply.contribution for reply in replies if isinstance(reply, ContributionReply)]
    answers = [federation.answer_of(federation.homes[name], sent) for name in ("anna", "bert")]
    given = [reply.answer for reply in answers if isinstance(reply, UnmaskReply)]
    federation.opened(sent, given)
    assert [entry.kind for entry in federation.home("bert").ledger.entries()] == ["answer"]


def test_a_party_that_serves_as_a_tenant_only_does_not_help(federation: Federation) -> None:
    federation.set_policy("anna", serve_as=("tenant",))
    federation.attempt = 1
    replies = [federation.contribution_of(federation.homes[name]) for name in ("anna", "carl")]
    sent = [reply.contribution for reply in replies if isinstance(reply, ContributionReply)]
    assert len(sent) == 2
    said = federation.answer_of(federation.homes["anna"], sent)
    assert isinstance(said, Refusal)
    assert (said.error, "serves as tenant only" in said.message) == ("PolicyViolation", True)


def test_no_history_is_opened_for_a_contribution_that_the_role_forbids(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation.set_policy("anna", serve_as=("helper",))  # its store is still there

    def fail(*_: object) -> None:
        raise AssertionError("the histories were opened")

    monkeypatch.setattr(Store, "open", fail)
    said = federation.contribution_of(federation.homes["anna"])
    assert isinstance(said, Refusal)
    assert said.error == "PolicyViolation"
    # The check sees an opened store: carl has to open its own.
    with pytest.raises(AssertionError, match="histories were opened"):
        federation.contribution_of(federation.homes["carl"])


def test_a_job_runs_with_a_helper_that_is_no_tenant_and_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, nodes, wanted = federation_cast._member, Exchange.nodes, list[int]()

    def as_helper(home: ClientHome, *, helper: bool) -> Member:
        found = listed(home, helper=helper)
        return replace(found, roles=("helper",)) if home.name == "bert" else found

    def counted(self: Exchange, **asked: Any) -> tuple[int, ...]:
        wanted.append(asked["wanted"])
        return nodes(self, **asked)

    monkeypatch.setattr(federation_cast, "_member", as_helper)
    monkeypatch.setattr(Exchange, "nodes", counted)
    cast = make_cast(tmp_path, noise="helpers")
    policy = cast.homes["bert"] / "policy.toml"
    policy.write_text(policy.read_text().replace('serve_as = ["tenant", "helper"]', 'serve_as = ["helper"]'))
    (cast.homes["bert"] / "store.db").unlink()
    cast.run()
    events = cast.events()
    assert wanted[0] == 3
    assert {event["party"] for event in events if event["event"] == "contribution"} == {"anna", "carl"}
    assert {event["party"] for event in events if event["event"] == "helper_answered"} == {"anna", "bert"}
    assert cast.published().privacy.epsilon < 1.1
    assert {entry.kind for entry in cast.home("bert").ledger.entries()} == {"answer"}


def test_preview_shows_only_what_a_helper_sends(federation: Federation) -> None:
    home = federation.home("bert")
    plan = default_plan(home)
    assert {message.type for message in preview(home, plan).messages} == {"helper answer"}


def test_the_node_of_a_helper_starts_only_for_a_home_that_only_helps(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificates = make_server_certificates(tmp_path / "certificates", now=datetime.now(UTC))
    started: list[Any] = []
    monkeypatch.setattr(supernode, "run", lambda home, settings: started.append((home, settings)))
    for name in ("anna", "bert"):
        federation.set_policy(name, app_digests=("0" * 64,))
    arguments = ["helper", "--superlink", "localhost:1", "--root-certificates", str(certificates.authority), "--home"]
    result = CliRunner().invoke(client_app, [*arguments, str(federation.homes["anna"])])
    assert isinstance(result.exception, BadSetting)
    assert "serve_as" in str(result.exception)
    assert not started
    assert CliRunner().invoke(client_app, [*arguments, str(federation.homes["bert"])]).exit_code == 0
    ((home, settings),) = started
    assert home == federation.homes["bert"]
    assert settings.gradients is False


# --- what runs out ---


def after_first_list(federation: Federation, name: str = "anna") -> tuple[ClientHome, Roster]:
    federation.attempt = 1
    federation.contribution_of(federation.homes[name])
    return federation.home(name), federation.roster()


def test_nothing_is_to_be_done_before_the_first_list_and_while_everything_lasts(federation: Federation) -> None:
    assert notices(federation.home("anna"), int(time.time())) == []
    home, roster = after_first_list(federation)
    assert notices(home, int(time.time())) == []
    assert notices(home, roster.expires_at - 14 * DAY) == []
    assert notices(home, roster.expires_at - 14 * DAY + 1) == [
        "the list of epoch 1 runs out in 13 days; ask the issuer for a newer one"
    ]
    assert "has run out" in notices(home, roster.expires_at)[0]


def test_keys_that_run_out_are_told_by_name(federation: Federation) -> None:
    home, roster = after_first_list(federation)
    bert, anna = (roster.member(name, int(time.time())) for name in ("bert", "anna"))
    assert anna.sealing is not None
    assert bert.sealing is not None
    # Each was made in a second of its own.
    said = notices(home, max(anna.sealing.not_after, bert.sealing.not_after))
    assert "the certified sealing key of anna has run out; run `zhiyin client keys rotate`" in " ".join(said)
    assert "the certified sealing key of the helper bert has run out" in " ".join(said)
    said = notices(home, max(anna.not_after, bert.not_after))
    assert "the place of anna on the list has run out" in " ".join(said)
    assert "the place of the helper bert on the list has run out" in " ".join(said)


def test_keys_that_differ_are_told(federation: Federation) -> None:
    home, _ = after_first_list(federation)
    now = int(time.time())
    home.vault.make_sealing_key()
    (home.vault.folder / "seal-0001.key").unlink()
    assert any("does not hold the sealing key" in line for line in notices(federation.home("anna"), now))
    home.vault.replace_signing_key()
    assert any("another signing key for anna" in line for line in notices(federation.home("anna"), now))
    federation.set_policy("carl", helpers={})
    home, _ = after_first_list(federation, "carl")
    federation.revoke("carl")
    federation.publish()
    command(client_app, "roster", federation.folder / "roster.bin", "--home", home.folder)
    assert any("carl is not on the list of epoch 2" in line for line in notices(federation.home("carl"), now))


def test_a_kept_list_that_is_gone_or_older_is_told_and_changes_nothing(federation: Federation) -> None:
    home, _ = after_first_list(federation)
    home.kept_roster.unlink()
    said = notices(federation.home("anna"), int(time.time()))
    assert said == ["the list of epoch 1 is not kept here; hand it over with `zhiyin client roster`"]
    assert status(home, now=0)["roster"]["epoch"] == 1
    assert errors_of(federation.turn(bert=federation.homes["bert"])) == {"bert": "PolicyViolation"}


def test_status_and_doctor_warn(federation: Federation) -> None:
    command(issuer_app, "publish", "--issuer", federation.issuer, "--out", federation.folder / "short.bin", "--days", 3)
    anna = federation.homes["anna"]
    command(client_app, "roster", federation.folder / "short.bin", "--home", anna)
    seen = command(client_app, "status", "--home", anna)
    assert (seen["roster"]["epoch"], len(seen["warnings"])) == (2, 1)
    assert "the list of epoch 2 runs out in" in seen["warnings"][0]
    found = command(client_app, "doctor", "--home", anna)
    assert [each["severity"] for each in found if each["check"] == "roster"] == ["warning"]
    result = CliRunner().invoke(client_app, ["status", "--home", str(anna)])
    assert "roster     epoch 2" in result.stdout
    assert "runs out in" in result.stdout


def test_everybody_serves_as_both_unless_the_policy_says_otherwise() -> None:
    assert LocalPolicy.serve_as == ("tenant", "helper")
