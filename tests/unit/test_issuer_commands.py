"""The issuer's commands, and the party's commands that they work with: words, files, and one line for what is wrong."""

import json
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import client_app
from client.home import ClientHome
from client.issuing import folder as folders
from client.issuing.cli import issuer_app
from client.issuing.folder import IssuerFolder, opened_alone
from shared.errors import BadSetting, BadSignature, ForkedRoster, MalformedMessage, OldRoster, ZhiyinError
from shared.fingerprint import key_fingerprint
from shared.roster import open_roster, sign_roster
from tests.identity_cast import command
from tests.unit.client_homes import CATALOGUE

RUNNER = CliRunner()


@pytest.fixture
def issuer(tmp_path: Path) -> Path:
    command(issuer_app, "init", "--issuer", tmp_path / "issuer")
    return tmp_path / "issuer"


def make_home(folder: Path, name: str, *arguments: object) -> Path:
    (folder / "catalogue.bin").write_bytes(CATALOGUE.to_bytes())
    command(
        client_app, "init", "--name", name, "--catalogue", folder / "catalogue.bin", "--home", folder / name, *arguments
    )
    return folder / name


def write_request(home: Path, *arguments: object) -> tuple[Path, str]:
    out = home.with_suffix(".json")
    return out, command(client_app, "keys", "request", "--home", home, "--out", out, *arguments)["fingerprint"]


@pytest.fixture
def north(tmp_path: Path) -> Path:
    return make_home(tmp_path, "north")


def test_the_issuers_files_are_its_own_and_its_identity_is_not_replaced(issuer: Path) -> None:
    for name in ("issuer.key", "register.json"):
        assert stat.S_IMODE((issuer / name).stat().st_mode) == 0o600
    before = (issuer / "issuer.key").read_bytes()
    with pytest.raises(BadSetting, match="an issuer is here already"):
        command(issuer_app, "init", "--issuer", issuer)
    assert (issuer / "issuer.key").read_bytes() == before


def test_a_party_is_enrolled_once_its_fingerprint_was_compared(issuer: Path, north: Path) -> None:
    request, fingerprint = write_request(north, "--role", "tenant", "--role", "helper")
    with pytest.raises(BadSetting, match="compare the fingerprint with north by telephone"):
        command(issuer_app, "enrol", request, "--issuer", issuer)
    with pytest.raises(BadSetting, match="nothing was changed"):
        command(issuer_app, "enrol", request, "--issuer", issuer, "--fingerprint", fingerprint[:-1] + "x")
    assert command(issuer_app, "list", "--issuer", issuer)["members"] == []
    spoken = fingerprint.upper().replace(" ", "-")
    told = command(issuer_app, "enrol", request, "--issuer", issuer, "--fingerprint", spoken)
    assert told["fingerprint"] == fingerprint
    (listed,) = command(issuer_app, "list", "--issuer", issuer)["members"]
    shown = command(client_app, "keys", "show", "--home", north)
    assert (listed["signing_key"], listed["fingerprint"]) == (shown["signing"], shown["fingerprint"])
    assert listed["sealing"]["key"] == shown["sealing"]["1"]
    assert listed["node_public_key"] == shown["node"]


def test_what_will_change_is_said_before_it_does(issuer: Path, north: Path) -> None:
    request, _ = write_request(north)
    said = RUNNER.invoke(issuer_app, ["enrol", str(request), "--issuer", str(issuer)])
    assert "+ north (tenant): new, until 20" in said.stdout
    assert ClientHome.open(north).vault.signing_public in said.stdout
    command(issuer_app, "enrol", request, "--issuer", issuer, "--yes")
    request, _ = write_request(north, "--role", "helper")
    said = RUNNER.invoke(issuer_app, ["enrol", str(request), "--issuer", str(issuer), "--yes"])
    assert "roles tenant becomes helper" in said.stdout
    assert "sealing key none becomes" in said.stdout
    said = RUNNER.invoke(issuer_app, ["revoke", "north", "--issuer", str(issuer)])
    assert "- north (helper): removed; 3 keys never come back" in said.stdout


def publish(issuer: Path, out: Path, *arguments: object) -> int:
    return int(command(issuer_app, "publish", "--issuer", issuer, "--out", out, *arguments)["epoch"])


def test_every_publication_has_the_next_epoch_also_when_the_last_one_broke_off(
    issuer: Path, north: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(issuer_app, "enrol", write_request(north)[0], "--issuer", issuer, "--yes")
    out = tmp_path / "roster.bin"
    assert publish(issuer, out, "--days", 7) == 1
    opened = open_roster(out.read_bytes(), IssuerFolder.open(issuer).public, int(time.time()))
    assert opened.expires_at - int(time.time()) in range(7 * 86_400 - 60, 7 * 86_400 + 1)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("client.issuing.cli.write_file", cut)
        RUNNER.invoke(issuer_app, ["publish", "--issuer", str(issuer), "--out", str(out)])
    # Epoch 2 was never seen; using it again would be two lists of one epoch.
    assert publish(issuer, out) == 3
    assert publish(issuer, out, "--after", 40) == 41


def test_a_register_that_was_edited_or_lost_is_refused(issuer: Path, north: Path, tmp_path: Path) -> None:
    command(issuer_app, "enrol", write_request(north)[0], "--issuer", issuer, "--yes")
    path = issuer / "register.json"
    whole = path.read_bytes()
    for damaged in (
        whole.replace(b'"epoch": 0', b'"epoch": 9'),
        whole[: len(whole) // 2],
        b"",
        whole.replace(b"north", b"south"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(BadSetting, match=r"register\.json: .*put the newest copy back"):
            publish(issuer, tmp_path / "roster.bin")
    path.unlink()
    with pytest.raises(BadSetting, match=r"register\.json: the file is missing; put the newest copy back"):
        publish(issuer, tmp_path / "roster.bin")
    assert not (tmp_path / "roster.bin").exists()


def test_a_register_of_another_issuer_is_refused(issuer: Path, tmp_path: Path) -> None:
    command(issuer_app, "init", "--issuer", tmp_path / "other")
    (issuer / "register.json").write_bytes((tmp_path / "other" / "register.json").read_bytes())
    with pytest.raises(BadSetting, match="not signed by this issuer's key"):
        command(issuer_app, "list", "--issuer", issuer)


def test_two_commands_at_once_cannot_publish_one_epoch_twice(issuer: Path, tmp_path: Path) -> None:
    with opened_alone(issuer), pytest.raises(BadSetting, match="another command is at work"):
        publish(issuer, tmp_path / "roster.bin")


def test_a_folder_without_an_issuer_or_with_an_open_key_is_one_line(issuer: Path, tmp_path: Path) -> None:
    for arguments in (("list",), ("revoke", "north"), ("publish", "--out", tmp_path / "roster.bin")):
        with pytest.raises(BadSetting, match="zhiyin issuer init"):
            command(issuer_app, *arguments, "--issuer", tmp_path / "nothing")
    (issuer / folders.KEY_FILE).chmod(0o644)
    with pytest.raises(BadSetting, match="chmod 600"):
        command(issuer_app, "list", "--issuer", issuer)


def test_bad_requests_are_one_line_with_the_file(issuer: Path, north: Path, tmp_path: Path) -> None:
    request, _ = write_request(north, "--role", "helper")
    document = json.loads(request.read_bytes())
    cases: list[tuple[bytes, type[ZhiyinError]]] = [
        (b"\x00" * 100, MalformedMessage),
        (request.read_bytes()[:-9], MalformedMessage),
        (json.dumps({**document, "fields": {**document["fields"], "name": "south"}}).encode(), BadSignature),
        (json.dumps({**document, "signature": "0" * 128}).encode(), BadSignature),
    ]
    for data, error in cases:
        (tmp_path / "bad.json").write_bytes(data)
        with pytest.raises(error, match=r"bad\.json"):
            command(issuer_app, "enrol", tmp_path / "bad.json", "--issuer", issuer, "--yes")
    with pytest.raises(BadSetting, match=r"none\.json: it cannot be read"):
        command(issuer_app, "enrol", tmp_path / "none.json", "--issuer", issuer, "--yes")
    assert command(issuer_app, "list", "--issuer", issuer)["members"] == []


def test_a_request_as_what_the_policy_refuses_to_serve_is_not_written(tmp_path: Path) -> None:
    auditor = make_home(tmp_path, "auditor", "--helper-only")
    with pytest.raises(BadSetting, match="does not list tenant"):
        write_request(auditor, "--role", "tenant")
    assert not auditor.with_suffix(".json").exists()
    write_request(auditor)
    assert json.loads(auditor.with_suffix(".json").read_bytes())["fields"]["roles"] == ["helper"]


def test_no_key_is_made_whose_request_could_not_be_written(north: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="no such folder"):
        command(client_app, "keys", "rotate", "--home", north, "--out", tmp_path / "no" / "request.json")
    assert list(ClientHome.open(north).vault.sealing_keys) == [1]


def test_old_sealing_keys_are_erased_by_a_list_that_names_the_new_one(
    issuer: Path, north: Path, tmp_path: Path
) -> None:
    public = IssuerFolder.open(issuer).public
    policy = north / "policy.toml"
    policy.write_text(policy.read_text().replace('issuer_public_key = ""', f'issuer_public_key = "{public}"'))
    command(issuer_app, "enrol", write_request(north, "--role", "helper")[0], "--issuer", issuer, "--yes")
    first, second = tmp_path / "1.bin", tmp_path / "2.bin"
    publish(issuer, first)
    with pytest.raises(BadSetting, match="add --role helper"):  # no list was seen, so nothing says what it was
        command(client_app, "keys", "rotate", "--home", north, "--out", tmp_path / "rotate.json")
    command(client_app, "roster", first, "--home", north)
    command(client_app, "keys", "rotate", "--home", north, "--out", tmp_path / "rotate.json")
    told = command(client_app, "keys", "erase-old", first, "--home", north)
    assert told == {"epoch": 1, "erased": [], "left": [1, 2]}
    command(issuer_app, "enrol", tmp_path / "rotate.json", "--issuer", issuer, "--yes")
    publish(issuer, second)
    told = command(client_app, "keys", "erase-old", second, "--home", north)
    assert told == {"epoch": 2, "erased": [1], "left": [2]}
    with pytest.raises(OldRoster):
        command(client_app, "roster", first, "--home", north)
    roster = open_roster(second.read_bytes(), public, int(time.time()))
    fork = sign_roster(replace(roster, expires_at=roster.expires_at + 1), IssuerFolder.open(issuer).signing_key)
    (tmp_path / "fork.bin").write_bytes(fork)
    with pytest.raises(ForkedRoster):
        command(client_app, "roster", tmp_path / "fork.bin", "--home", north)


def test_a_list_that_is_damaged_foreign_or_missing_is_one_line(issuer: Path, north: Path, tmp_path: Path) -> None:
    public = IssuerFolder.open(issuer).public
    policy = north / "policy.toml"
    policy.write_text(policy.read_text().replace('issuer_public_key = ""', f'issuer_public_key = "{public}"'))
    with pytest.raises(BadSetting, match=r"none\.bin: the roster cannot be read"):
        command(client_app, "roster", tmp_path / "none.bin", "--home", north)
    (tmp_path / "bad.bin").write_bytes(bytes(200))
    with pytest.raises(BadSignature):
        command(client_app, "roster", tmp_path / "bad.bin", "--home", north)
    assert ClientHome.open(north).ledger.rosters() == ()


def test_key_fingerprints_are_those_of_the_issuers_list(issuer: Path) -> None:
    public = IssuerFolder.open(issuer).public
    assert command(issuer_app, "list", "--issuer", issuer)["issuer_public_key"] == public
    assert len(key_fingerprint(public)) == 39
