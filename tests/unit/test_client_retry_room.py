"""A home as `zhiyin client init` makes it, and the plan of the operating guide: wasted attempts have room."""

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from typer.testing import CliRunner

from client.answer import answer
from client.cli import client_app
from client.home import POLICY_FILE, ClientHome
from client.policy import LocalPolicy, PinnedHelper
from client.policy_file import render_policy
from server.cli import server_app
from server.settings import load_plan
from shared.plan import TrainingPlan, plan_to_json
from shared.roster import Member, Roster, sign_roster
from shared.wire import ContributionReply, ContributionRequest, Message, Refusal, decode, encode
from tests.unit.client_homes import certified, make_catalogue

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "operating.md"
NOW = int(time.time())
ISSUER, SOUTH = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
SOUTH_SEAL = X25519PrivateKey.generate()


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "catalogue.bin"
    path.write_bytes(make_catalogue(400).to_bytes())
    return path


@pytest.fixture
def plan(tmp_path: Path, catalogue: Path) -> TrainingPlan:
    """Made by the operator's command from the guide's example, as it is printed there."""
    (example,) = re.findall(r"```\n(job_id = .*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "plan.toml").write_text(example, encoding="utf-8")
    arguments = [
        "plan",
        str(tmp_path / "plan.toml"),
        "--catalogue",
        str(catalogue),
        "--out",
        str(tmp_path / "plan.json"),
    ]
    result = CliRunner().invoke(server_app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return load_plan(tmp_path / "plan.json")


@pytest.fixture
def home(tmp_path: Path, catalogue: Path) -> ClientHome:
    """After init, with the keys filled in that every partner has to fill in, and nothing else changed."""
    folder = tmp_path / "home"
    arguments = [
        "init",
        "--name",
        "north",
        "--catalogue",
        str(catalogue),
        "--declared-users",
        "500",
        "--home",
        str(folder),
    ]
    assert CliRunner().invoke(client_app, arguments, catch_exceptions=False).exit_code == 0
    made = ClientHome.open(folder)
    helpers = {
        "north": PinnedHelper(signing=made.vault.signing_public),
        "south": PinnedHelper(signing=SOUTH.public_key().public_bytes_raw().hex()),
    }
    policy = replace(made.policy, helpers=helpers, issuer_public_key=ISSUER.public_key().public_bytes_raw().hex())
    (folder / POLICY_FILE).write_text(render_policy(policy), encoding="utf-8")
    return ClientHome.open(folder)


def ask(home: ClientHome, plan: TrainingPlan, step: int, attempt: int) -> Message:
    sealing = {
        "north": home.vault.certify("north", not_before=0, not_after=2 * NOW),
        "south": certified("south", SOUTH_SEAL.public_key().public_bytes_raw().hex(), SOUTH),
    }
    members = tuple(
        Member(
            name=name, signing_key=pin.signing, sealing=sealing[name], roles=("tenant", "helper"),
            not_before=0, not_after=2 * NOW,
        )
        for name, pin in home.policy.helpers.items()
    )  # fmt: skip
    roster = sign_roster(Roster(entries=members, epoch=1, issued_at=0, expires_at=2 * NOW), ISSUER)
    inputs = {"head": np.arange(300, dtype=np.int32)} if step else {}
    request = ContributionRequest(
        plan_json=plan_to_json(plan), step=step, attempt=attempt, roster=roster, inputs=inputs
    )
    return decode(answer(home, encode(request), now=NOW, random_bytes=os.urandom))


def test_a_step_can_be_repeated_twice_and_no_more_than_the_policy_says(home: ClientHome, plan: TrainingPlan) -> None:
    assert plan.epsilon == 1.0
    turns = [(0, 0), (1, 0), (1, 1), (1, 2)]
    for step, attempt in turns:
        assert isinstance(ask(home, plan, step, attempt), ContributionReply)
    assert 1.5 < home.ledger.spent_epsilon(home.policy.delta) <= home.policy.max_epsilon_per_job
    refused = ask(home, plan, 1, 3)
    assert isinstance(refused, Refusal)
    assert refused.error == "BudgetExhausted"
    assert [(entry.step, entry.attempt) for entry in home.ledger.entries()] == turns


def test_a_small_budget_is_never_passed_by_what_one_job_may_cost(tmp_path: Path, catalogue: Path) -> None:
    for epsilon, per_job in ((0.5, 0.5), (8.0, LocalPolicy.max_epsilon_per_job)):
        folder = tmp_path / str(epsilon)
        arguments = [
            "init",
            "--name",
            "n",
            "--catalogue",
            str(catalogue),
            "--epsilon",
            str(epsilon),
            "--home",
            str(folder),
        ]
        CliRunner().invoke(client_app, arguments, catch_exceptions=False)
        assert ClientHome.open(folder).policy.max_epsilon_per_job == per_job


def test_the_written_policy_says_how_much_room_retries_have(home: ClientHome) -> None:
    text = (home.folder / POLICY_FILE).read_text(encoding="utf-8")
    assert "room for two extra attempts of a plan's largest step" in text
