"""The commands: words or JSON, errors in one line with their exit code, and no one's data where it is not asked for."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.home import ClientHome
from client.policy_file import render_policy
from client.supernode import NodeSettings
from shared.fingerprint import key_fingerprint
from shared.mechanism import Gaussian
from shared.plan import plan_to_json
from simulations.console import main
from simulations.deployment.certificates import make_server_certificates
from tests.unit.client_homes import CATALOGUE, cooccurrence, make_artifact, make_catalogue, make_policy, write_artifact

PUBLISHER = Ed25519PrivateKey.generate()
CANARY_USER, CANARY_SECOND = "canary-user-7f3a", "canary-other-91bc"
CANARY_ITEM = "course-9"


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def value(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("ZHIYIN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def runner(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["zhiyin", "client", *arguments])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ran(code, captured.out, captured.err)

    return runner


@pytest.fixture
def home(tmp_path: Path, run: Run) -> Path:
    (tmp_path / "catalogue.bin").write_bytes(CATALOGUE.to_bytes())
    made = run("init", "--name", "north", "--catalogue", str(tmp_path / "catalogue.bin"), "--declared-users", "500")
    assert made.code == 0
    folder = tmp_path / "home"
    policy = make_policy(publisher_public_key=PUBLISHER.public_key().public_bytes_raw().hex())
    (folder / "policy.toml").write_text(render_policy(policy))
    return folder


@pytest.fixture
def filled(home: Path, tmp_path: Path, run: Run) -> Path:
    path = tmp_path / "events.csv"
    path.write_text(
        f"user,item,timestamp\n{CANARY_USER},course-4,1\n{CANARY_USER},{CANARY_ITEM},2\n{CANARY_SECOND},course-1,1\n"
    )
    assert run("import", str(path)).code == 0
    return home


def test_init_makes_a_home_and_says_what_to_hand_out(tmp_path: Path, run: Run) -> None:
    (tmp_path / "catalogue.bin").write_bytes(CATALOGUE.to_bytes())
    made = run("init", "--name", "north", "--catalogue", str(tmp_path / "catalogue.bin"), "--json")
    opened = ClientHome.open(tmp_path / "home")
    assert made.value["signing"] == opened.vault.signing_public
    assert made.value["fingerprint"] == key_fingerprint(opened.vault.signing_public)
    text = (opened.folder / "policy.toml").read_text()
    assert text.count("\n# ") > 20


def test_import_tells_what_it_did(home: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "events.csv").write_text("user,item\nann,course-1\nann,course-2\n")
    first = run("import", str(tmp_path / "events.csv"), "--json")
    assert first.value == {
        "added": 2, "known": 0, "changed": 0, "store": {"num_users": 1, "num_items": 2, "num_events": 2},
    }  # fmt: skip
    assert "0 events added, 2 known already" in run("import", str(tmp_path / "events.csv")).out


def test_status_tells_privacy_spent_and_left(filled: Path, run: Run) -> None:
    opened = ClientHome.open(filled)
    opened.ledger.charge(
        job_id="job", step=0, attempt=0, context=bytes(32), mechanism=Gaussian(noise_std=10, sensitivity=1),
        budget=opened.policy.budget, job_budget=opened.policy.job_budget,
    )  # fmt: skip
    privacy = run("status", "--json").value["privacy"]
    assert privacy["releases"] == 1
    assert privacy["epsilon_spent"] == pytest.approx(opened.ledger.spent_epsilon(1e-5))
    assert privacy["epsilon_left"] == pytest.approx(4.0 - privacy["epsilon_spent"])
    said = run("status").out
    assert "3 events of 2 users" in said
    assert "1 releases" in said


def test_preview_reads_a_plan_from_a_file(filled: Path, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan_to_json(cooccurrence())))
    seen = run("preview", "--plan", str(path), "--json").value
    assert seen["job_id"] == "job-1"
    assert seen["accepted"] is True
    assert "nothing was sent, nothing was charged" in run("preview").out
    assert ClientHome.open(filled).ledger.entries() == ()


def test_the_default_plan_can_be_saved_and_previewed_again(filled: Path, tmp_path: Path, run: Run) -> None:
    first = run("preview", "--save", str(tmp_path / "plan.json"), "--json").value
    assert run("preview", "--plan", str(tmp_path / "plan.json"), "--json").value == first


def declare_one_user(home: Path) -> None:
    policy = home / "policy.toml"
    policy.write_text(policy.read_text().replace("declared_users = 500", "declared_users = 1"))


def test_preview_refuses_for_a_home_that_holds_more_users_than_it_declares(filled: Path, run: Run) -> None:
    assert run("preview").code == 0
    declare_one_user(filled)
    ran = run("preview", "--json")
    assert ran.code == 3
    assert ran.value["accepted"] is False
    assert "declared_users" in ran.value["local_refusal"]
    said = run("preview").out
    assert "declared_users" in said
    assert "this plan would be refused" in said


def test_a_preview_that_is_refused_by_the_policy_exits_so(filled: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(plan_to_json(cooccurrence(min_users=50))))
    ran = run("preview", "--plan", str(tmp_path / "plan.json"), "--json")
    assert (ran.code, ran.value["accepted"], ran.value["local_refusal"]) == (3, False, "")


def test_import_warns_of_more_users_than_are_declared(filled: Path, tmp_path: Path, run: Run) -> None:
    again = ("import", str(tmp_path / "events.csv"), "--json")
    assert run(*again).err == ""
    declare_one_user(filled)
    ran = run(*again)
    assert (ran.code, ran.value["added"]) == (0, 0)
    assert ran.err.startswith("warning: the store holds more users than declared_users")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(("declared", "gradients"), [("500", True), ("1", False)])
def test_a_device_preloads_no_torch(
    filled: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, declared: str, gradients: bool
) -> None:
    policy = filled / "policy.toml"
    text = policy.read_text().replace("declared_users = 500", f"declared_users = {declared}")
    policy.write_text(text.replace("app_digests = []", f'app_digests = ["{"0" * 64}"]'))
    served: list[NodeSettings] = []
    monkeypatch.setattr("client.supernode.run", lambda _, settings: served.append(settings))
    authority = make_server_certificates(tmp_path / "tls", now=datetime.now(UTC)).authority
    assert run("run", "--superlink", "localhost:9092", "--root-certificates", str(authority)).code == 0
    assert [settings.gradients for settings in served] == [gradients]


def test_install_and_recommend(filled: Path, tmp_path: Path, run: Run) -> None:
    folder = write_artifact(tmp_path / "model", make_artifact(), PUBLISHER)
    assert "installed courses version 3" in run("install", str(folder)).out
    lines = run("recommend", "--user", CANARY_USER, "-k", "3", "--json").value
    assert [line["item_id"] for line in lines][:2] == ["course-10", "course-5"]
    said = run("recommend", "--user", CANARY_USER, "-k", "3").out
    assert "Course 10" in said
    assert "people who had “Course 9”" in said
    assert run("status", "--json").value["model"]["version"] == 3


def test_doctor_passes_a_sound_home_and_names_every_fault(filled: Path, run: Run) -> None:
    assert run("doctor").code == 0
    (filled / "keys" / "sign.key").chmod(0o644)
    (filled / "ledger.db").write_bytes(b"damaged" * 1000)
    found = run("doctor", "--json")
    assert found.code == 2
    errors = {finding["check"]: finding["message"] for finding in found.value if finding["severity"] == "error"}
    assert set(errors) == {"keys", "ledger"}
    assert "chmod 600" in errors["keys"]


def test_doctor_refuses_more_users_than_are_declared(filled: Path, run: Run) -> None:
    policy = filled / "policy.toml"
    policy.write_text(policy.read_text().replace("declared_users = 500", "declared_users = 1"))
    found = run("doctor")
    assert found.code == 2
    assert "declared_users" in found.out


def test_a_new_catalogue_leaves_out_what_it_no_longer_lists(filled: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "next.bin").write_bytes(make_catalogue(num_items=5, version=2).to_bytes())
    assert run("catalogue", str(tmp_path / "next.bin"), "--json").value["events_left_out"] == 1
    assert run("status", "--json").value["catalogue"]["version"] == 2


def test_status_tells_what_was_spent_also_when_the_model_is_for_another_catalogue(
    filled: Path, tmp_path: Path, run: Run
) -> None:
    assert run("install", str(write_artifact(tmp_path / "model", make_artifact(), PUBLISHER))).code == 0
    assert run("status", "--json").value["model_refused"] == ""
    (tmp_path / "next.bin").write_bytes(make_catalogue(version=2).to_bytes())
    assert run("catalogue", str(tmp_path / "next.bin")).code == 0
    seen = run("status", "--json")
    assert seen.code == 0
    assert seen.value["model"] is None
    assert "for another catalogue" in seen.value["model_refused"]
    assert seen.value["privacy"]["releases"] == 0
    assert "for another catalogue" in run("status").out


def test_a_person_can_see_and_erase_what_is_held_about_them(filled: Path, run: Run) -> None:
    held = run("export", "--user", CANARY_USER).value
    assert [event["item"] for event in held["events"]] == ["course-4", CANARY_ITEM]
    assert run("erase", "--user", CANARY_USER, "--json").value == {"events_erased": 2}
    assert run("export", "--user", CANARY_USER).code == 2
    assert CANARY_USER.encode() not in b"".join(path.read_bytes() for path in filled.rglob("*") if path.is_file())


def plant_bad_policy(home: Path) -> None:
    (home / "policy.toml").write_text("min_users = 5\n")


def plant_bad_ledger(home: Path) -> None:
    (home / "ledger.db").write_bytes(b"damaged" * 1000)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["status", "--home", "/nowhere/at/all"], 2, "no home is here"),
        (["import", "missing.csv"], 2, "no such file"),
        (["recommend", "--user", "ann"], 2, "no model is installed"),
        (["install", "/nowhere"], 5, "model.safetensors"),
        (["preview", "--plan", "/nowhere.json"], 2, "cannot be read as JSON"),
        (["preview", "--save", "/nowhere/plan.json"], 2, "/nowhere/plan.json: it cannot be written"),
        (["run", "--superlink", "localhost:1", "--root-certificates", "/nowhere"], 2, "app bundle"),
    ],
)
def test_an_error_is_one_line_with_the_exit_code_of_its_class(
    home: Path, run: Run, arguments: list[str], code: int, says: str
) -> None:
    ran = run(*arguments)
    assert ran.code == code
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert ran.out == ""


def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path, run: Run) -> None:
    (tmp_path / "catalogue.bin").write_bytes(CATALOGUE.to_bytes())
    place = tmp_path / "catalogue.bin" / "home"
    ran = run("init", "--name", "north", "--catalogue", str(tmp_path / "catalogue.bin"), "--home", str(place))
    assert ran.code == 2
    assert f"{place}: it cannot be made" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("damage", [plant_bad_policy, plant_bad_ledger])
def test_a_damaged_home_is_one_line_too(home: Path, run: Run, damage: Callable[[Path], None]) -> None:
    damage(home)
    ran = run("status")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert str(home) in ran.err


def test_a_plan_that_is_no_plan_is_a_protocol_error(home: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "plan.json").write_text("{}")
    ran = run("preview", "--plan", str(tmp_path / "plan.json"))
    assert ran.code == 4
    assert ran.err.count("\n") == 1


BAD_ROWS = [
    f"{CANARY_USER},course-1,soon,1", f"{CANARY_USER},course-1,1,nan", f"{CANARY_USER},,1,1",
    f"{CANARY_USER},course-1,1", f'{CANARY_USER},"course-1" x,1,1', f"{CANARY_USER},{CANARY_ITEM},1,-5",
    f"{CANARY_USER},course-0,1,1\n{CANARY_USER},course-0,1,1", f"{CANARY_USER},not-listed,1,1",
]  # fmt: skip


def test_no_output_and_no_log_holds_a_user_or_what_they_used(
    filled: Path, tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = write_artifact(tmp_path / "model", make_artifact(), PUBLISHER)
    said = ""
    files = [f"user,item,timestamp,weight\n{row}\n" for row in BAD_ROWS]
    files += [f"{CANARY_USER},{CANARY_ITEM},1\n", f"user,item\n{CANARY_USER}\xe9,course-1\n"]
    for number, text in enumerate(files):
        path = tmp_path / f"bad-{number}.csv"
        path.write_bytes(text.encode("latin-1"))
        ran = run("import", str(path))
        assert ran.code == 2, text
        assert ran.out == ""
        said += ran.err
    for arguments in (
        ["import", str(tmp_path / "events.csv")], ["import", str(tmp_path / "events.csv"), "--json"], ["preview"],
        ["preview", "--json"], ["status"], ["status", "--json"], ["doctor"], ["doctor", "--json"],
        ["install", str(folder)], ["recommend", "--user", f"{CANARY_USER}-x"], ["erase", "--user", f"{CANARY_USER}-x"],
        ["export", "--user", f"{CANARY_USER}-x"],
    ):  # fmt: skip
        ran = run(*arguments)
        said += ran.out + ran.err
    said += caplog.text
    assert len(said) > 5_000
    for canary in (CANARY_USER, CANARY_SECOND, "canary", CANARY_ITEM):
        assert canary not in said
    assert "not-listed" in said  # the one value told on purpose: an item that the catalogue does not list


def test_the_canary_check_would_see_a_leak(filled: Path, run: Run) -> None:
    assert CANARY_USER in run("export", "--user", CANARY_USER).out
